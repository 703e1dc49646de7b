"""Entries of the relative matrix in blocks of anchors, each operation against what it is over whole rows."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.fusion.relative import entries as entries_module
from deepen_llm.fusion.relative.entries import (
    exponentiate,
    find_lengths,
    find_nearest,
    multiply,
    pick,
    scale,
    split_anchors,
)
from tests.rounding import rounding

NUM_TOKENS, HIDDEN = 11, 8


@pytest.fixture(params=[1, 7, 8, 9, 20])
def num_anchors(request, monkeypatch):
    monkeypatch.setattr(entries_module, "ANCHORS_AT_ONCE", 8)
    return request.param


def make_entries(num_anchors):
    """Small whole numbers, so that no sum is rounded and many entries are alike: in blocks, and whole."""
    generator = torch.Generator().manual_seed(num_anchors)
    tokens = torch.randint(-2, 3, (NUM_TOKENS, HIDDEN), generator=generator).float()
    anchors = torch.randint(-2, 3, (num_anchors, HIDDEN), generator=generator).float()
    blocks = multiply(tokens, split_anchors(anchors), torch.empty(NUM_TOKENS * num_anchors + 5))
    return blocks, tokens @ anchors.T


def test_products_are_those_of_whole_rows_in_blocks_of_so_many_anchors(num_anchors):
    blocks, whole = make_entries(num_anchors)
    assert torch.equal(torch.cat(blocks, dim=1), whole)
    assert all(block.shape[1] == 8 for block in blocks[:-1])


def test_lengths_and_scaled_entries_are_those_of_whole_rows(num_anchors):
    blocks, whole = make_entries(num_anchors)
    lengths = torch.linalg.vector_norm(whole.double(), dim=1)
    torch.testing.assert_close(find_lengths(blocks).double(), lengths, rtol=rounding(num_anchors, 2), atol=0)
    factors = torch.arange(NUM_TOKENS).float()
    greatest = scale(blocks, factors)
    assert torch.equal(torch.cat(blocks, dim=1), whole * factors[:, None])
    assert torch.equal(greatest.amax(dim=0), (whole * factors[:, None]).amax(dim=1))


def test_the_nearest_anchor_is_the_first_of_those_with_the_greatest_entry(num_anchors):
    blocks, whole = make_entries(num_anchors)
    wanted = torch.arange(NUM_TOKENS) % 3 != 0
    nearest = find_nearest(blocks, scale(blocks, torch.ones(NUM_TOKENS)), wanted)
    first = [row.tolist().index(max(row.tolist())) for row in whole]
    assert nearest.tolist() == [place if is_wanted else 0 for place, is_wanted in zip(first, wanted, strict=True)]


def test_every_token_has_its_own_entry_picked(num_anchors):
    blocks, whole = make_entries(num_anchors)
    anchors = torch.arange(NUM_TOKENS) * 5 % num_anchors
    assert torch.equal(pick(blocks, anchors), whole[torch.arange(NUM_TOKENS), anchors])


def test_exponentials_and_their_sums_are_those_of_whole_rows(num_anchors):
    blocks, whole = make_entries(num_anchors)
    greatest = whole.amax(dim=1)
    totals = exponentiate(blocks, greatest)
    expected = (whole - greatest[:, None]).double().exp()
    torch.testing.assert_close(torch.cat(blocks, dim=1).double(), expected, rtol=rounding(1), atol=0)
    torch.testing.assert_close(totals.double(), expected.sum(dim=1), rtol=rounding(num_anchors), atol=0)
