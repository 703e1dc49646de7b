"""Weights a row, the same for every fusion method."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.fusion.text import TextFusion
from tests.fusion import test_equal_text as equal_text
from tests.fusion import test_union as union
from tests.fusion.fused import Given
from tests.fusion.relative import test_method as relative
from tests.fusion.toy_texts import in_frame, make_logits, make_members
from tests.rounding import rounding

ROWS = torch.tensor([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
"""Of three members, the first the main model: shared out, all for it, nothing for it."""
BYTEWISE = {
    "union": lambda members, **given: union.make_fusion(members, top_k=3, **given),
    "arithmetic": lambda members, **given: equal_text.make_fusion(members, mean="arithmetic", **given),
    "geometric": lambda members, **given: equal_text.make_fusion(members, mean="geometric", **given),
}
RELATIVE = {
    "exact": {"max_candidates": None},
    "candidates": {"max_candidates": 6},
    "sampled": {"form": "sampled", "max_candidates": 6},
    "published": {"search": "gradient", "main_ends": True},
    "trusted by half": {"max_candidates": 6, "trust": 0.5},
}
AVERAGED = {
    "exact, the rest": {"max_candidates": None, "maps": "rest"},
    "candidates, the rest": {"max_candidates": 6, "maps": "rest"},
    "published, the rest": {"search": "gradient", "maps": "rest", "main_ends": True},
}


def bytewise(name, weights=None, seed=0):
    """A method over toy members and logits of three rows, as a function of the rows' weights."""
    members = make_members([12, 17, 15])
    logits = make_logits(members, seed=seed)
    fusion = BYTEWISE[name](members, weights=weights)
    return lambda rows=slice(None), weights=None: fusion.fuse([one[rows] for one in logits], weights)


def in_relative_space(name, weights=None, seed=0):
    spaces = relative.make_spaces((23, 17, 19), 9)
    logits = relative.make_logits(spaces, seed=seed)
    fusion = relative.make_fusion(spaces, weights=weights or [1 / 3] * 3, **RELATIVE[name])
    return lambda rows=slice(None), weights=None: fusion.fuse([one[rows] for one in logits], weights)


def make_projections(num_tokens, batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(2, batch, num_tokens + 9, generator=generator).mul(3)
    drawn[..., 0] = -torch.inf
    drawn = drawn.softmax(dim=-1)
    whole = drawn[0, :, :num_tokens]
    return [
        None,
        Given(whole / whole.sum(dim=-1, keepdim=True), None, torch.tensor([True, True, False])),
        Given(drawn[1, :, :num_tokens], drawn[1, :, num_tokens:]),
    ]


def of_projections(name, weights=None, seed=0):
    """The methods that take projections, each over main-model logits and two projections."""
    given = weights or [1 / 3] * 3
    if name in RELATIVE | AVERAGED:
        spaces = relative.make_spaces((23, 17, 9), 7)
        fusion = relative.make_fusion(spaces, weights=given, **(RELATIVE | AVERAGED)[name])
        logits = relative.make_logits(spaces, seed=seed)[0]
    else:
        [main] = make_members([23])
        fusion = in_frame(TextFusion(name), [main] * 3, weights=given)
        [logits] = make_logits([main], seed=seed)
    given = make_projections(23)
    return lambda rows=slice(None), weights=None: fusion.fuse_projected(
        logits[rows], [one and one.rows(rows) for one in given], weights
    )


METHODS = [
    *((bytewise, name) for name in BYTEWISE),
    *((in_relative_space, name) for name in RELATIVE),
    *((of_projections, name) for name in (*RELATIVE, *AVERAGED, "arithmetic", "geometric")),
]
every_method = pytest.mark.parametrize(("make", "name"), METHODS)


BETWEEN_TWO = 2 * rounding(num_terms=40, num_steps=5)


def close(left, right, atol=BETWEEN_TWO):
    """Both are float32 computations, each as far from the exact one as its sums and steps allow."""
    torch.testing.assert_close(left.exp(), right.exp(), atol=atol, rtol=0)


@every_method
@pytest.mark.parametrize("row", range(3))
def test_each_row_gets_what_its_weights_give_when_they_hold_for_all(make, name, row):
    fused = make(name)(weights=ROWS)
    close(fused[row], make(name, weights=ROWS[row].tolist())()[row])


@every_method
def test_a_batch_of_rows_equals_single_rows(make, name):
    fuse = make(name)
    together = fuse(weights=ROWS)
    for row in range(3):
        picked = slice(row, row + 1)
        close(together[picked], fuse(picked, ROWS[picked]))


@every_method
def test_rows_with_the_given_weights_change_nothing(make, name):
    given = [0.5, 0.2, 0.3]
    fuse = make(name, weights=given)
    close(fuse(weights=torch.tensor([given] * 3)), fuse())


@every_method
def test_all_weight_on_the_main_model_is_the_main_model_alone(make, name):
    alone = make(name, weights=[1.0, 0.0, 0.0])()
    close(make(name)(weights=torch.tensor([[1.0, 0.0, 0.0]] * 3)), alone)
    assert not torch.allclose(make(name)().exp(), alone.exp(), atol=1e-3)


@every_method
def test_no_row_holds_nan_where_a_member_has_no_weight(make, name):
    fused = make(name)(weights=torch.eye(3))
    assert not fused.isnan().any()
    torch.testing.assert_close(fused.exp().sum(dim=-1), torch.ones(3), atol=BETWEEN_TWO, rtol=0)
