"""Weights a row, the same for every fusion method."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.fusion.alone import MainAlone
from deepen_llm.fusion.base import Reading
from deepen_llm.fusion.text import TextFusion
from deepen_llm.fusion.weights import counts, keep_alone, share_out
from tests.fusion import test_equal_text as equal_text
from tests.fusion import test_union as union
from tests.fusion.relative import test_method as relative
from tests.fusion.toy_texts import counts_as, make_logits, make_members, verdict_of

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


def make_readings(num_tokens, batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    told = torch.randn(2, batch, num_tokens + 9, generator=generator).mul(3)
    told[..., 0] = -torch.inf
    told = told.softmax(dim=-1)
    whole = told[0, :, :num_tokens]
    return [
        None,
        Reading(whole / whole.sum(dim=-1, keepdim=True), None, torch.tensor([True, True, False])),
        Reading(told[1, :, :num_tokens], told[1, :, num_tokens:]),
    ]


def part_of(reading, rows):
    if reading is None:
        return None
    picked = [None if one is None else one[rows] for one in (reading.probs, reading.rest, reading.speaks)]
    return Reading(*picked)


def of_readings(name, weights=None, seed=0):
    """The methods that take readings, each over main-model logits and two readings."""
    given = weights or [1 / 3] * 3
    if name in RELATIVE:
        spaces = relative.make_spaces((23, 17, 9), 7)
        fusion = relative.make_fusion(spaces, weights=given, **RELATIVE[name])
        logits = relative.make_logits(spaces, seed=seed)[0]
    else:
        [main] = make_members([23])
        fusion = TextFusion(counts_as(main), main=0, weights=given, verdict=verdict_of(main), mean=name)
        [logits] = make_logits([main], seed=seed)
    readings = make_readings(23)
    return lambda rows=slice(None), weights=None: fusion.fuse_readings(
        logits[rows], [part_of(reading, rows) for reading in readings], weights
    )


METHODS = [
    *((bytewise, name) for name in BYTEWISE),
    *((in_relative_space, name) for name in RELATIVE),
    *((of_readings, name) for name in (*RELATIVE, "arithmetic", "geometric")),
]
every_method = pytest.mark.parametrize(("make", "name"), METHODS)


def close(left, right, atol=1e-5):
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
        close(together[picked], fuse(picked, ROWS[picked]), atol=1e-6)


@every_method
def test_rows_with_the_given_weights_change_nothing(make, name):
    given = [0.5, 0.2, 0.3]
    fuse = make(name, weights=given)
    close(fuse(weights=torch.tensor([given] * 3)), fuse())


@every_method
def test_all_weight_on_the_main_model_is_the_main_model_alone(make, name):
    alone = make(name, weights=[1.0, 0.0, 0.0])()
    close(make(name)(weights=torch.tensor([[1.0, 0.0, 0.0]] * 3)), alone, atol=1e-6)
    assert not torch.allclose(make(name)().exp(), alone.exp(), atol=1e-3)


@every_method
def test_no_row_holds_nan_where_a_member_has_no_weight(make, name):
    fused = make(name)(weights=torch.eye(3))
    assert not fused.isnan().any()
    torch.testing.assert_close(fused.exp().sum(dim=-1), torch.ones(3))


def test_a_main_model_alone_asks_for_no_weights():
    fusion, logits = MainAlone(1, torch.tensor([True, False, True])), [torch.zeros(2, 5), torch.randn(2, 3)]
    assert torch.equal(fusion.fuse(logits, torch.tensor([[0.9, 0.1]] * 2)), fusion.fuse(logits))


def test_shares_are_those_given_or_a_column_a_member():
    assert share_out([0.25, 0.75], None, torch.device("cpu")) == [0.25, 0.75]
    first, second = share_out(
        [0.25, 0.75], torch.tensor([[0.5, 0.5], [1.0, 0.0]], dtype=torch.float64), torch.device("cpu")
    )
    assert first.tolist() == [[0.5], [1.0]] and second.tolist() == [[0.5], [0.0]]
    assert first.dtype == torch.float32
    assert counts(second) and counts(0.1) and not counts(0.0)


def test_rows_that_are_all_the_main_models_are_exactly_its_own():
    alone, fused = torch.randn(2, 4), torch.randn(2, 4)
    kept = keep_alone(torch.tensor([[1.0], [0.9]]), alone, fused)
    assert torch.equal(kept[0], alone[0]) and torch.equal(kept[1], fused[1])
    assert keep_alone(1.0, alone, fused) is fused
