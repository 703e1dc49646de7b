"""Relative fusion of members that were projected as text."""

from __future__ import annotations

import math

import pytest
import torch

from deepen_llm.fusion.relative.method import RelativeFusion
from tests import reference
from tests.fusion.fused import Fused, Given
from tests.fusion.relative.test_method import (
    SEARCHES,
    canonical_ids,
    close,
    make_fusion,
    make_logits,
    make_spaces,
    tolerance,
)

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


def build_matrices(spaces, *, align_eos=True):
    return [
        reference.relative_matrix(
            space.embeddings.double().tolist(),
            space.anchor_ids.tolist() + ([space.eos_ids[0]] if align_eos else []),
            len(space.allowed),
        )
        for space in spaces
    ]


def read_main(space, logits):
    return logits.double().masked_fill(~space.allowed, -torch.inf).tolist()


def search_by_reference(search, start, relative, target):
    if search == "multiplicative":
        return reference.multiplicative_search(reference.softmax(start), relative, target, 3)
    return reference.gradient_search(start, relative, target, 3, 0.15)


SETTINGS = {"weights": [0.6, 0.4], "num_steps": 3, "learning_rate": 0.15}


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("residual_share", [0.0, 0.3])
@pytest.mark.parametrize("align_eos", [True, False])
@pytest.mark.parametrize("form", WHOLE)
def test_a_projection_enters_through_the_main_models_rows_and_its_residual_through_the_members_own(
    search, residual_share, align_eos, form
):
    spaces = make_spaces((13, 17), 7)
    logits = make_logits(spaces)[0]
    projected = make_projection(spaces, 1, residual_share=residual_share)

    fusion = make_fusion(spaces, search=search, align_eos=align_eos, **SETTINGS, **form)
    fused = fusion.fuse_projected(logits, [None, projected])

    main, other = build_matrices(spaces, align_eos=align_eos)
    for row in range(3):
        start = read_main(spaces[0], logits[row])
        target = [0.6 * share for share in reference.mix(reference.softmax(start), main)]
        target = [r + 0.4 * s for r, s in zip(target, reference.mix(projected.probs[row].tolist(), main), strict=True)]
        if projected.residual is not None:
            rest = reference.mix(projected.residual[row].tolist(), other)
            target = [r + 0.4 * s for r, s in zip(target, rest, strict=True)]
        expected = search_by_reference(search, start, main, target)
        assert fused[row].exp().tolist() == pytest.approx(expected, abs=tolerance(spaces))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("form", WHOLE)
def test_where_only_the_rest_is_mapped_the_search_goes_from_the_mean_of_what_was_projected(search, form):
    spaces = make_spaces((13, 17), 7)
    logits = make_logits(spaces)[0]
    projected = make_projection(spaces, 1, residual_share=0.3)

    fusion = make_fusion(spaces, maps="rest", search=search, **SETTINGS, **form)
    fused = fusion.fuse_projected(logits, [None, projected])

    main, other = build_matrices(spaces)
    for row in range(3):
        own = reference.softmax(read_main(spaces[0], logits[row]))
        parts = [0.6 * p + 0.4 * q for p, q in zip(own, projected.probs[row].tolist(), strict=True)]
        start = [math.log(part / sum(parts)) if part else -math.inf for part in parts]
        rest = reference.mix(projected.residual[row].tolist(), other)
        target = [r + 0.4 * s for r, s in zip(reference.mix(parts, main), rest, strict=True)]
        expected = search_by_reference(search, start, main, target)
        assert fused[row].exp().tolist() == pytest.approx(expected, abs=tolerance(spaces))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("max_candidates", FORMS)
def test_where_only_the_rest_is_mapped_and_there_is_none_the_answer_is_the_mean(search, max_candidates):
    spaces = make_spaces((20, 16, 18), 9)
    logits = make_logits(spaces)[0]
    given = [make_projection(spaces, index, seed=index) for index in (1, 2)]
    settings = {"weights": [0.5, 0.3, 0.2], "search": search, "max_candidates": max_candidates}
    fused = make_fusion(spaces, maps="rest", **settings).fuse_projected(logits, [None, *given])
    own = logits.masked_fill(~spaces[0].allowed, -torch.inf).softmax(dim=-1)
    mean = 0.5 * own + 0.3 * given[0].probs + 0.2 * given[1].probs
    torch.testing.assert_close(fused.exp(), mean, atol=tolerance(spaces, num_steps=0), rtol=0)


def test_what_was_not_projected_goes_through_the_anchors_in_any_case():
    spaces = make_spaces((20, 16), 9)
    logits = make_logits(spaces)
    rest, everything = (make_fusion(spaces, maps=maps).fuse(logits) for maps in ("rest", "all"))
    assert torch.equal(rest, everything)
    assert not torch.allclose(rest, logits[0].log_softmax(dim=-1), atol=1e-2)


def test_without_tables_the_mean_is_the_answer():
    spaces = make_spaces((20, 16), 9)
    logits = make_logits(spaces)[0]
    given = [None, make_projection(spaces, 1)]
    ids = [canonical_ids(space) for space in spaces]
    method = RelativeFusion(None, 0, form=None)
    found = Fused(method, ids, weights=[0.6, 0.4]).fuse_projected(logits, given)
    close(found, make_fusion(spaces, maps="rest", weights=[0.6, 0.4]).fuse_projected(logits, given))
    assert method.num_bytes == 0 and method.member_bytes == ()


@pytest.mark.parametrize("maps", ["rest", "all"])
@pytest.mark.parametrize("max_candidates", FORMS)
@pytest.mark.parametrize("search", SEARCHES)
def test_rows_sum_to_one_and_a_batch_of_many_is_many_batches_of_one(search, max_candidates, maps):
    spaces = make_spaces((20, 16, 18), 9)
    fusion = make_fusion(spaces, search=search, max_candidates=max_candidates, maps=maps)
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


@pytest.mark.parametrize("maps", ["rest", "all"])
@pytest.mark.parametrize("max_candidates", FORMS)
def test_a_member_that_has_no_mass_leaves_its_weight_to_the_main_model(max_candidates, maps):
    spaces = make_spaces((20, 16), 9)
    fusion = make_fusion(spaces, max_candidates=max_candidates, maps=maps)
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
