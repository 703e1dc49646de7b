from __future__ import annotations

import pytest
import torch

from deepen_llm.errors import NumericalError
from deepen_llm.fusion.relative import rows as rows_module
from deepen_llm.fusion.relative.isotropy import CommonPart
from deepen_llm.fusion.relative.member import MemberSpace
from deepen_llm.fusion.relative.rows import NUM_NEAREST, RowTables, draw_sample, largest
from deepen_llm.fusion.relative.space import build_relative_matrix

NUM_TOKENS, NUM_ANCHORS, HIDDEN = 90, 50, 16


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
    return common, RowTables.build(space, common, draw_sample(len(space.anchor_ids)), **changes)


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
def test_a_few_numbers_a_token_make_every_entry(settings):
    space = make_space(**settings)
    common, tables = build(space)
    embedded = common.remove(space.embeddings).float()
    anchors = embedded[space.anchor_ids] * tables.inverse_lengths[space.anchor_ids][:, None]
    made = (
        tables.scales[: len(embedded), None] * (embedded @ anchors.T) - tables.log_totals[: len(embedded), None]
    ).exp()
    matrix = matrix_of(space)
    torch.testing.assert_close(made, matrix[: len(embedded)], atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(
        tables.log_totals[len(embedded) :].exp(), torch.full((NUM_TOKENS - len(embedded),), 50.0)
    )
    assert not tables.scales[len(embedded) :].any()


@pytest.mark.parametrize("settings", SPACES)
def test_products_come_from_the_embeddings_as_they_are(settings):
    space = make_space(**settings)
    common, tables = build(space)
    raw, freed = space.embeddings.float(), common.remove(space.embeddings).float()
    is_used = raw.any(dim=1)
    raw, freed, shared = raw[is_used], freed[is_used], tables.shared[: len(raw)][is_used]
    products = raw @ raw.T - shared[:, :1] - shared[:, 0] - shared[:, 1:] @ shared[:, 1:].T
    torch.testing.assert_close(products, freed @ freed.T, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("settings", SPACES)
def test_the_sample_and_the_mean_row_are_those_of_the_matrix(settings):
    space = make_space(**settings)
    _, tables = build(space)
    matrix = matrix_of(space)
    sampled = tables.sampled.float().exp() / NUM_ANCHORS
    torch.testing.assert_close(sampled, matrix[:, draw_sample(NUM_ANCHORS)], atol=1e-6, rtol=5e-3)
    torch.testing.assert_close(tables.mean_row, matrix[space.allowed].mean(dim=0), atol=1e-6, rtol=1e-4)


def test_nearest_are_the_largest_entries_with_the_own_anchor_first():
    space = make_space()
    _, tables = build(space)
    matrix = matrix_of(space)
    for token in range(NUM_TOKENS):
        best = matrix[token].topk(NUM_NEAREST).indices.tolist()
        is_anchor = token in space.anchor_ids.tolist()
        own = space.anchor_ids.tolist().index(token) if is_anchor else best[0]
        assert tables.nearest[token, 0] == own
        if own in best:
            assert sorted(tables.nearest[token].tolist()) == sorted(best)


def test_an_anchor_reaches_its_own_token_first_and_then_those_that_are_near_to_it():
    space = make_space(num_zero=5)
    _, tables = build(space)
    for anchor, tokens in enumerate(tables.reached.tolist()):
        own = int(space.anchor_ids[anchor])
        listed = [token for token in tokens if token >= 0]
        assert len(set(listed)) == len(listed)
        assert (own in listed) == bool(space.allowed[own])
        assert not listed or listed[0] == own or not space.allowed[own]
        for token in listed:
            assert space.allowed[token]
            assert anchor in tables.nearest[token]
            assert token == own or not 60 <= token < 65, "a token without a direction is near to nothing"


def test_the_tables_do_not_depend_on_the_tiles(monkeypatch):
    space = make_space(removed_directions=2)
    _, whole = build(space)
    shares = []
    monkeypatch.setattr(rows_module, "TILE_ENTRIES", 7 * NUM_ANCHORS)
    _, tiled = build(space, advance=shares.append)
    for name, table in whole.tensors().items():
        torch.testing.assert_close(tiled.tensors()[name], table, atol=1e-3, rtol=1e-3)
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) == 13


def test_what_the_tables_give_restores_them():
    _, tables = build(make_space())
    again = RowTables.restore(tables.tensors(), torch.device("cpu"))
    assert all(torch.equal(table, again.tensors()[name]) for name, table in tables.tensors().items())
    assert again.num_bytes == sum(table.nbytes for table in tables.tensors().values())


def test_embeddings_with_nan_are_refused():
    space = make_space()
    space.embeddings[5, 3] = torch.nan
    with pytest.raises(NumericalError, match="the first is row 5"):
        RowTables.build(space, CommonPart.measure(space.embeddings, 0), draw_sample(NUM_ANCHORS))


@pytest.mark.parametrize("width", [1, 8, 63, 64, 512, 513, 640, 1000, 2111])
@pytest.mark.parametrize("count", [1, 8])
def test_the_largest_entries_are_those_of_topk(width, count):
    entries = torch.randn(20, width, generator=torch.Generator().manual_seed(width))
    count = min(count, width)
    values, places = largest(entries, count)
    expected = entries.topk(count, dim=-1)
    assert torch.equal(values, expected.values)
    assert torch.equal(places, expected.indices)


def test_the_sample_is_always_the_same_and_no_larger_than_the_anchors():
    assert torch.equal(draw_sample(5000), draw_sample(5000))
    assert draw_sample(10).tolist() == list(range(10))
    assert len(draw_sample(5000)) == rows_module.NUM_SAMPLED
