"""The search over candidates; `test_method.py` and `test_sampled.py` hold it against the equations."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.fusion.relative.candidates import Columns
from tests.fusion.fused import Given
from tests.fusion.relative.test_method import SEARCHES, fuse_by_reference, make_fusion, make_logits, make_spaces
from tests.fusion.relative.test_method import tolerance as tolerance_of

SAMPLE = torch.tensor([0, 2, 5, 9, 11])


def test_columns_name_every_anchor_once_and_the_sample_without_them():
    columns = Columns.choose(torch.tensor([[7, 2, 7, 9]]), SAMPLE)
    assert columns.anchors[columns.is_new].tolist() == [2, 7, 9]
    assert columns.is_sampled.tolist() == [[True, False, True, False, True]]


def test_each_row_of_a_batch_has_columns_of_its_own():
    rows = [[7, 2, 7, 9], [11, 11, 11, 11], [12, 0, 5, 2]]
    together = Columns.choose(torch.tensor(rows), SAMPLE)
    for row, anchors in enumerate(rows):
        alone = Columns.choose(torch.tensor([anchors]), SAMPLE)
        for name in ("anchors", "is_new", "is_sampled"):
            assert torch.equal(getattr(together, name)[row : row + 1], getattr(alone, name))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("scale", [8.0, 14.0])
def test_members_that_are_nearly_sure_leave_next_to_nothing_beside_their_candidates(search, scale):
    spaces = make_spaces((40, 35), 20, num_special=2)
    logits = make_logits(spaces, batch=6, scale=scale)
    fused = make_fusion(spaces, search=search, max_candidates=8, align_eos=False).fuse(logits)
    options = {"search": search, "num_steps": 5, "learning_rate": 0.15, "num_candidates": 8}
    settings = {"main": 0, "weights": [0.5, 0.5], "align_eos": False, "trust": 1.0}
    for row in range(6):
        expected = fuse_by_reference(spaces, logits, row, **settings, search=options)
        assert fused[row].exp().tolist() == pytest.approx(expected, abs=tolerance_of(spaces))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("form", ["dense", "sampled"])
def test_what_members_give_in_the_main_models_tokens_adds_up(search, form):
    spaces = make_spaces((40, 35, 30), 20)
    logits = make_logits(spaces)[0]
    probs = make_logits(spaces[:1], seed=7)[0].softmax(dim=-1)
    settings = {"search": search, "form": form, "max_candidates": 8}
    one = make_fusion(spaces, weights=[0.4, 0.6, 0.0], **settings)
    two = make_fusion(spaces, weights=[0.4, 0.35, 0.25], **settings)
    together = two.fuse_projected(logits, [None, Given(probs), Given(probs)])
    alone = one.fuse_projected(logits, [None, Given(probs), None])
    torch.testing.assert_close(together.exp(), alone.exp(), atol=2 * tolerance_of(spaces), rtol=0)


def test_as_many_candidates_as_there_are_tokens_may_be_asked_for():
    spaces = make_spaces((12, 9), 5)
    fused = make_fusion(spaces, max_candidates=500).fuse(make_logits(spaces))
    assert fused.shape == (3, 12) and fused.isfinite().all()
