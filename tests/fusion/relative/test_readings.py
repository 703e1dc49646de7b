"""Relative fusion of members that were read as text."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.fusion.base import Reading
from tests import reference
from tests.fusion.relative.test_method import SEARCHES, close, make_fusion, make_logits, make_spaces

FORMS = [None, 6]


def make_reading(spaces, index, *, batch=3, rest_share=0.0, seed=9):
    """A random reading in the first member's tokens, with some of the mass on the last tokens of the member's own."""
    main, own = make_logits([spaces[0], spaces[index]], batch=batch, seed=seed)
    main[:, ~spaces[0].allowed] = -torch.inf
    probs = main.softmax(dim=-1)
    if not rest_share:
        return Reading(probs, None)
    own[:, :-3] = -torch.inf
    return Reading((1 - rest_share) * probs, rest_share * own.softmax(dim=-1))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("rest_share", [0.0, 0.3])
@pytest.mark.parametrize("align_eos", [True, False])
def test_a_reading_enters_through_the_main_models_rows_and_its_rest_through_the_members_own(
    search, rest_share, align_eos
):
    spaces = make_spaces((13, 17), 7)
    settings = {"search": search, "num_steps": 3, "learning_rate": 0.15}
    logits = make_logits(spaces)[0]
    reading = make_reading(spaces, 1, rest_share=rest_share)

    fusion = make_fusion(spaces, weights=[0.6, 0.4], align_eos=align_eos, **settings)
    fused = fusion.fuse_readings(logits, [None, reading])

    main, other = (
        reference.relative_matrix(
            space.embeddings.double().tolist(),
            space.anchor_ids.tolist() + ([space.eos_ids[0]] if align_eos else []),
            len(space.allowed),
        )
        for space in spaces
    )
    for row in range(3):
        start = logits[row].double().masked_fill(~spaces[0].allowed, -torch.inf).tolist()
        target = [0.6 * share for share in reference.mix(reference.softmax(start), main)]
        target = [r + 0.4 * s for r, s in zip(target, reference.mix(reading.probs[row].tolist(), main), strict=True)]
        if reading.rest is not None:
            rest = reference.mix(reading.rest[row].tolist(), other)
            target = [r + 0.4 * s for r, s in zip(target, rest, strict=True)]
        if search == "multiplicative":
            expected = reference.multiplicative_search(reference.softmax(start), main, target, 3)
        else:
            expected = reference.gradient_search(start, main, target, 3, 0.15)
        assert fused[row].exp().tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("max_candidates", FORMS)
@pytest.mark.parametrize("search", SEARCHES)
def test_rows_sum_to_one_and_a_batch_of_many_is_many_batches_of_one(search, max_candidates):
    spaces = make_spaces((20, 16, 18), 9)
    fusion = make_fusion(spaces, search=search, max_candidates=max_candidates)
    logits = make_logits(spaces, batch=4)[0]
    readings = [make_reading(spaces, index, batch=4, rest_share=0.2, seed=index) for index in (1, 2)]

    together = fusion.fuse_readings(logits, [None, *readings])

    torch.testing.assert_close(together.exp().sum(dim=-1), torch.ones(4), atol=1e-4, rtol=0)
    for row in range(4):
        single = [Reading(one.probs[row : row + 1], one.rest[row : row + 1]) for one in readings]
        close(together[row], fusion.fuse_readings(logits[row : row + 1], [None, *single])[0])


@pytest.mark.parametrize("max_candidates", FORMS)
def test_a_reading_that_is_the_main_models_own_is_the_main_model(max_candidates):
    spaces = make_spaces((20, 16), 9)
    fusion = make_fusion(spaces, max_candidates=max_candidates)
    logits = make_logits(spaces)[0]
    alone = make_fusion(spaces, trust=0.0).fuse_readings(logits, [None, None])
    close(fusion.fuse_readings(logits, [None, Reading(alone.exp(), None)]), alone)


@pytest.mark.parametrize("max_candidates", FORMS)
def test_a_member_that_does_not_speak_leaves_its_weight_to_the_main_model(max_candidates):
    spaces = make_spaces((20, 16), 9)
    fusion = make_fusion(spaces, max_candidates=max_candidates)
    logits = make_logits(spaces)[0]
    spoken = make_reading(spaces, 1)
    fused = fusion.fuse_readings(logits, [None, Reading(spoken.probs, None, torch.tensor([True, False, True]))])
    alone = make_fusion(spaces, trust=0.0).fuse_readings(logits, [None, None])
    close(fused[1], alone[1])
    close(fused[[0, 2]], fusion.fuse_readings(logits, [None, spoken])[[0, 2]])


@pytest.mark.parametrize("align_eos", [True, False])
def test_ends_of_sequence_of_a_reading_are_folded_where_the_main_models_are(align_eos):
    spaces = make_spaces((20, 20), 9, num_special=3)
    spaces = [
        type(space)(space.embeddings, space.anchor_ids, torch.ones(20, dtype=torch.bool), (2, 0, 1)) for space in spaces
    ]
    fusion = make_fusion(spaces, align_eos=align_eos)
    logits = make_logits(spaces)[0]
    alone = make_fusion(spaces, align_eos=align_eos, trust=0.0).fuse_readings(logits, [None, None])

    fused = fusion.fuse_readings(logits, [None, Reading(logits.softmax(dim=-1), None)])

    close(fused, alone)
    assert (fused[:, :2] == -torch.inf).all() == align_eos


@pytest.mark.parametrize("settings", [{"weights": [1.0, 0.0]}, {"trust": 0.0}, {"num_steps": 0}])
def test_all_weight_on_main_no_trust_or_no_step_is_the_main_model_alone(settings):
    spaces = make_spaces((20, 16), 9)
    logits = make_logits(spaces)[0]
    fused = make_fusion(spaces, **settings).fuse_readings(logits, [None, make_reading(spaces, 1, rest_share=0.5)])
    close(fused, logits.masked_fill(~spaces[0].allowed, -torch.inf).log_softmax(dim=-1))
