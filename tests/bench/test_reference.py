from __future__ import annotations

import dataclasses

import pytest
import torch

from deepen_llm.bench import reference as reference_module
from deepen_llm.bench.reference import fuse_candidates, fuse_densely
from deepen_llm.fusion.relative.inverse import InverseSearch
from tests.fusion.relative.test_method import SEARCHES, fuse_by_reference, make_spaces
from tests.fusion.relative.test_method import make_logits as make_random_logits


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("sizes", [(9, 8), (7, 10, 8)])
@pytest.mark.parametrize("tile_entries", [1, 15, 1 << 20])
def test_the_dense_reference_equals_the_loops_whatever_the_tiles(monkeypatch, search, sizes, tile_entries):
    monkeypatch.setattr(reference_module, "TILE_ENTRIES", tile_entries)
    spaces = make_spaces(sizes, 5, num_special=2)
    weights = [0.3, 0.7] if len(sizes) == 2 else [0.2, 0.5, 0.3]
    logits = make_random_logits(spaces, batch=2)
    found = fuse_densely(spaces, logits, main=1, weights=weights, search=InverseSearch(search, 4, 0.2))
    assert found.dtype == torch.float64
    settings = {"search": search, "num_steps": 4, "learning_rate": 0.2}
    for row in range(2):
        expected = fuse_by_reference(
            spaces, logits, row, main=1, weights=weights, align_eos=False, trust=1.0, search=settings
        )
        torch.testing.assert_close(found[row].exp(), torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize(("sizes", "max_candidates"), [((9, 8), 3), ((7, 10, 8), 5), ((9, 8), 40)])
@pytest.mark.parametrize("tile_entries", [15, 1 << 20])
def test_the_reference_over_candidates_equals_the_loops(monkeypatch, search, sizes, max_candidates, tile_entries):
    monkeypatch.setattr(reference_module, "TILE_ENTRIES", tile_entries)
    spaces = make_spaces(sizes, 5, num_special=2)
    weights = [0.3, 0.7] if len(sizes) == 2 else [0.2, 0.5, 0.3]
    logits = make_random_logits(spaces, batch=2)
    settings = {"main": 1, "weights": weights}
    inverse = InverseSearch(search, 4, 0.2)
    found = fuse_candidates(spaces, logits, **settings, search=inverse, max_candidates=max_candidates)
    assert found.dtype == torch.float64
    options = {"search": search, "num_steps": 4, "learning_rate": 0.2, "num_candidates": max_candidates}
    for row in range(2):
        expected = fuse_by_reference(spaces, logits, row, **settings, align_eos=False, trust=1.0, search=options)
        torch.testing.assert_close(found[row].exp(), torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("search", SEARCHES)
def test_kept_tiles_change_the_answer_by_the_rounding_of_float32_only(monkeypatch, search):
    monkeypatch.setattr(reference_module, "TILE_ENTRIES", 100)
    spaces = [dataclasses.replace(space, removed_directions=1) for space in make_spaces((60, 50), 30)]
    logits = make_random_logits(spaces, batch=3)
    settings = {"main": 0, "weights": [0.5, 0.5], "search": InverseSearch(search, 5, 0.15)}
    anew = fuse_densely(spaces, logits, **settings)
    kept = fuse_densely(spaces, logits, **settings, max_kept_bytes=1e6)
    assert not torch.equal(anew, kept)
    torch.testing.assert_close(kept.exp(), anew.exp(), atol=1e-5, rtol=0)


def test_no_matrix_is_kept_unless_it_fits():
    space = make_spaces((60, 50), 30)[0]
    rows_of = reference_module.RelativeRows(space, 4 * 60 * 30 - 1)
    assert [len(tile) for _, tile in rows_of] == [60] and not rows_of._kept
    rows_of = reference_module.RelativeRows(space, 4 * 60 * 30)
    assert [len(tile) for _, tile in rows_of] == [60] and rows_of._kept


@pytest.mark.parametrize("search", SEARCHES)
def test_no_steps_leave_the_main_model_alone_and_what_may_not_come_stays_out(search):
    spaces = make_spaces((9, 8), 5, num_special=3)
    logits = make_random_logits(spaces, batch=2)
    settings = {"main": 0, "weights": [0.5, 0.5]}
    alone = fuse_densely(spaces, logits, **settings, search=InverseSearch(search, 0, 0.15))
    masked = logits[0].double().masked_fill(~spaces[0].allowed, -torch.inf)
    torch.testing.assert_close(alone, masked.log_softmax(dim=-1))
    found = fuse_densely(spaces, logits, **settings, search=InverseSearch(search, 5, 0.15))
    assert torch.equal(torch.isinf(found), ~spaces[0].allowed.expand(2, -1))


def test_progress_tells_the_share_of_all_passes():
    spaces = make_spaces((9, 8), 5)
    told = []
    search = InverseSearch("multiplicative", 3, 0.15)
    fuse_densely(spaces, make_random_logits(spaces), main=0, weights=[0.5, 0.5], search=search, progress=told.append)
    assert told == pytest.approx([9 / 44, 17 / 44, 26 / 44, 35 / 44, 1.0])
