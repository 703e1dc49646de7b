"""Relative fusion of members that were projected as text."""

from __future__ import annotations

import pytest
import torch

from tests import reference
from tests.fusion.fused import Given
from tests.fusion.relative.test_method import SEARCHES, close, make_fusion, make_logits, make_spaces, tolerance

FORMS = [None, 6]
WHOLE = [{}, {"max_candidates": 40}, {"form": "sampled", "max_candidates": 40}]
"""Every token is searched over: at once, or as candidates, more than there are tokens."""


def make_projection(spaces, index, *, batch=3, residual_share=0.0, seed=9):
    """A random projection onto the first member's tokens, some of the mass on the last of the member's own tokens."""
    main, own = make_logits([spaces[0], spaces[index]], batch=batch, seed=seed)
    main[:, ~spaces[0].allowed] = -torch.inf
    probs = main.softmax(dim=-1)
    if not residual_share:
        return Given(probs, None)
    own[:, :-3] = -torch.inf
    return Given((1 - residual_share) * probs, residual_share * own.softmax(dim=-1))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("residual_share", [0.0, 0.3])
@pytest.mark.parametrize("align_eos", [True, False])
@pytest.mark.parametrize("form", WHOLE)
def test_a_projection_enters_through_the_main_models_rows_and_its_residual_through_the_members_own(
    search, residual_share, align_eos, form
):
    spaces = make_spaces((13, 17), 7)
    settings = {"search": search, "num_steps": 3, "learning_rate": 0.15}
    logits = make_logits(spaces)[0]
    projected = make_projection(spaces, 1, residual_share=residual_share)

    fusion = make_fusion(spaces, weights=[0.6, 0.4], align_eos=align_eos, **settings, **form)
    fused = fusion.fuse_projected(logits, [None, projected])

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
        target = [r + 0.4 * s for r, s in zip(target, reference.mix(projected.probs[row].tolist(), main), strict=True)]
        if projected.residual is not None:
            rest = reference.mix(projected.residual[row].tolist(), other)
            target = [r + 0.4 * s for r, s in zip(target, rest, strict=True)]
        if search == "multiplicative":
            expected = reference.multiplicative_search(reference.softmax(start), main, target, 3)
        else:
            expected = reference.gradient_search(start, main, target, 3, 0.15)
        assert fused[row].exp().tolist() == pytest.approx(expected, abs=tolerance(spaces))


@pytest.mark.parametrize("max_candidates", FORMS)
@pytest.mark.parametrize("search", SEARCHES)
def test_rows_sum_to_one_and_a_batch_of_many_is_many_batches_of_one(search, max_candidates):
    spaces = make_spaces((20, 16, 18), 9)
    fusion = make_fusion(spaces, search=search, max_candidates=max_candidates)
    logits = make_logits(spaces, batch=4)[0]
    projections = [make_projection(spaces, index, batch=4, residual_share=0.2, seed=index) for index in (1, 2)]

    together = fusion.fuse_projected(logits, [None, *projections])

    torch.testing.assert_close(together.exp().sum(dim=-1), torch.ones(4), atol=tolerance(spaces), rtol=0)
    for row in range(4):
        single = [Given(one.probs[row : row + 1], one.residual[row : row + 1]) for one in projections]
        close(together[row], fusion.fuse_projected(logits[row : row + 1], [None, *single])[0])


@pytest.mark.parametrize("max_candidates", FORMS)
def test_a_projected_that_is_the_main_models_own_is_the_main_model(max_candidates):
    spaces = make_spaces((20, 16), 9)
    fusion = make_fusion(spaces, max_candidates=max_candidates)
    logits = make_logits(spaces)[0]
    alone = make_fusion(spaces, trust=0.0).fuse_projected(logits, [None, None])
    close(fusion.fuse_projected(logits, [None, Given(alone.exp(), None)]), alone)


@pytest.mark.parametrize("max_candidates", FORMS)
def test_a_member_that_has_no_mass_leaves_its_weight_to_the_main_model(max_candidates):
    spaces = make_spaces((20, 16), 9)
    fusion = make_fusion(spaces, max_candidates=max_candidates)
    logits = make_logits(spaces)[0]
    full = make_projection(spaces, 1)
    fused = fusion.fuse_projected(logits, [None, Given(full.probs, None, torch.tensor([True, False, True]))])
    alone = make_fusion(spaces, trust=0.0).fuse_projected(logits, [None, None])
    close(fused[1], alone[1])
    close(fused[[0, 2]], fusion.fuse_projected(logits, [None, full])[[0, 2]])


@pytest.mark.parametrize("align_eos", [True, False])
def test_ends_of_sequence_of_a_projected_are_folded_where_the_main_models_are(align_eos):
    spaces = make_spaces((20, 20), 9, num_special=3)
    spaces = [
        type(space)(space.embeddings, space.anchor_ids, torch.ones(20, dtype=torch.bool), (2, 0, 1)) for space in spaces
    ]
    fusion = make_fusion(spaces, align_eos=align_eos)
    logits = make_logits(spaces)[0]
    alone = make_fusion(spaces, align_eos=align_eos, trust=0.0).fuse_projected(logits, [None, None])

    fused = fusion.fuse_projected(logits, [None, Given(logits.softmax(dim=-1), None)])

    close(fused, alone)
    assert (fused[:, :2] == -torch.inf).all() == align_eos


@pytest.mark.parametrize("settings", [{"weights": [1.0, 0.0]}, {"trust": 0.0}, {"num_steps": 0}])
def test_all_weight_on_main_no_trust_or_no_step_is_the_main_model_alone(settings):
    spaces = make_spaces((20, 16), 9)
    logits = make_logits(spaces)[0]
    given = [None, make_projection(spaces, 1, residual_share=0.5)]
    fused = make_fusion(spaces, **settings).fuse_projected(logits, given)
    close(fused, logits.masked_fill(~spaces[0].allowed, -torch.inf).log_softmax(dim=-1))
