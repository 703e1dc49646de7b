from __future__ import annotations

import pytest
import torch

from deepen_llm.errors import NumericalError
from deepen_llm.fusion.relative import entries
from deepen_llm.fusion.relative import rows as rows_module
from deepen_llm.fusion.relative.isotropy import CommonPart
from deepen_llm.fusion.relative.member_space import MemberSpace
from deepen_llm.fusion.relative.rows import RowTables, unit_rows
from deepen_llm.fusion.relative.space import SHARPNESS, build_relative_matrix, find_own_anchors
from tests.rounding import rounding

NUM_TOKENS, NUM_ANCHORS, HIDDEN = 90, 50, 16
ENTRY = rounding(num_terms=NUM_ANCHORS, num_steps=2, magnitude=SHARPNESS)
"""Of an entry, as a share of it: an exponential whose argument, at most the sharpness, follows from two sums."""


def make_space(*, dtype=torch.float32, num_embedded=NUM_TOKENS, num_zero=0, removed_directions=0):
    generator = torch.Generator().manual_seed(3)
    embeddings = torch.randn(num_embedded, HIDDEN, generator=generator) + 0.5
    embeddings[60 : 60 + num_zero] = 0
    anchor_ids = torch.randperm(60, generator=generator)[:NUM_ANCHORS]
    allowed = torch.ones(NUM_TOKENS, dtype=torch.bool)
    allowed[[0, 1, 70]] = False
    return MemberSpace(embeddings.to(dtype), anchor_ids, allowed, (), removed_directions)


def build(space, **changes):
    common = CommonPart.measure(space.embeddings, space.removed_directions)
    return common, RowTables.build(space, common, **changes)


def matrix_of(space):
    common = CommonPart.measure(space.embeddings, space.removed_directions) if space.removed_directions != 0 else None
    return build_relative_matrix(space.embeddings, space.anchor_ids, len(space.allowed), common)


SPACES = [
    {},
    {"removed_directions": None},
    {"removed_directions": 3, "num_zero": 5},
    {"num_zero": 5},
    {"num_embedded": 80},
    {"dtype": torch.bfloat16},
]


@pytest.mark.parametrize("settings", SPACES)
def test_a_few_numbers_a_token_make_every_entry_from_the_embeddings_as_they_are(settings):
    space = make_space(**settings)
    common, tables = build(space)
    anchors = unit_rows(common.remove(space.embeddings[space.anchor_ids]))
    raw = space.embeddings.float()
    products = (raw - tables.mean) @ anchors.T
    made = (tables.scales[: len(raw), None] * products - tables.log_totals[: len(raw), None]).exp()
    torch.testing.assert_close(made, matrix_of(space)[: len(raw)], atol=rounding(1), rtol=ENTRY)
    uniform = tables.log_totals[len(raw) :].exp()
    torch.testing.assert_close(uniform, torch.full_like(uniform, NUM_ANCHORS), atol=rounding(1, 1, NUM_ANCHORS), rtol=0)
    assert not tables.scales[len(raw) :].any()


@pytest.mark.parametrize("settings", SPACES)
def test_own_anchors_their_shares_and_the_mean_row_are_those_of_the_matrix(settings):
    space = make_space(**settings)
    _, tables = build(space)
    matrix = matrix_of(space)
    own = find_own_anchors(matrix, space.anchor_ids)
    assert torch.equal(tables.own_anchors.long(), own)
    expected = matrix.gather(1, own[:, None]).squeeze(1)
    torch.testing.assert_close(tables.own_shares, expected, atol=rounding(1), rtol=ENTRY)
    mean = matrix[space.allowed].mean(dim=0)
    torch.testing.assert_close(tables.mean_row, mean, atol=rounding(NUM_TOKENS), rtol=ENTRY)


def test_the_tables_do_not_depend_on_the_tiles(monkeypatch):
    space = make_space(removed_directions=2)
    _, whole = build(space)
    shares = []
    monkeypatch.setattr(rows_module, "TILE_ENTRIES", 7 * NUM_ANCHORS)
    _, tiled = build(space, advance=shares.append)
    for name, table in whole.tensors().items():
        torch.testing.assert_close(tiled.tensors()[name], table, atol=1e-3, rtol=1e-3)
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) == 13


def test_the_tables_do_not_depend_on_the_blocks_of_anchors_nor_on_the_number_of_threads(monkeypatch):
    space = make_space(removed_directions=2)
    _, whole = build(space)
    monkeypatch.setattr(rows_module, "TILE_ENTRIES", 7 * NUM_ANCHORS)
    monkeypatch.setattr(entries, "ANCHORS_AT_ONCE", 16)
    before, built = torch.get_num_threads(), []
    for num_threads in (1, 3):
        torch.set_num_threads(num_threads)
        built.append(build(space)[1].tensors())
    torch.set_num_threads(before)
    for name, table in whole.tensors().items():
        torch.testing.assert_close(built[0][name], table, atol=1e-3, rtol=1e-3)
        assert torch.equal(built[0][name], built[1][name])


def test_what_the_tables_give_restores_them():
    _, tables = build(make_space())
    again = RowTables.restore(tables.tensors(), torch.device("cpu"))
    assert all(torch.equal(table, again.tensors()[name]) for name, table in tables.tensors().items())


def test_embeddings_with_nan_are_refused():
    space = make_space()
    space.embeddings[5, 3] = torch.nan
    with pytest.raises(NumericalError, match="the first is row 5"):
        RowTables.build(space, CommonPart.measure(space.embeddings, 0))
