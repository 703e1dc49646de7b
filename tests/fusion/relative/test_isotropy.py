from __future__ import annotations

import pytest
import torch

from deepen_llm.fusion.relative.isotropy import CommonPart
from deepen_llm.fusion.relative.space import build_relative_matrix
from tests.rounding import rounding

ROUNDING = rounding(num_terms=40, num_steps=3, magnitude=30.0)
"""Of the tokens below: their mean, and two products with directions, of entries up to 30."""


def remove_directions(embeddings, num_directions=None):
    return CommonPart.measure(embeddings, num_directions).remove(embeddings)


def collinear_tokens(num_tokens=40, hidden=32):
    """Tokens that share a strong part and differ a little, as tokens do that were never trained."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(hidden, generator=generator) * 5
    swing = torch.randn(num_tokens, 1, generator=generator) * torch.randn(hidden, generator=generator) * 3
    return shared + swing + torch.randn(num_tokens, hidden, generator=generator) * 0.1


def test_zero_directions_leave_the_embeddings_alone():
    embeddings = collinear_tokens()
    assert remove_directions(embeddings, 0) is embeddings


@pytest.mark.parametrize("num_directions", [1, 2, 5])
def test_what_is_left_has_no_mean_and_none_of_the_strongest_directions(num_directions):
    embeddings = collinear_tokens()
    left = remove_directions(embeddings, num_directions)
    centred = (embeddings - embeddings.mean(dim=0)).double()
    expected = torch.linalg.svd(centred, full_matrices=False)
    rest = expected.U[:, num_directions:] @ torch.diag(expected.S[num_directions:]) @ expected.Vh[num_directions:]
    torch.testing.assert_close(left.double(), rest, atol=ROUNDING, rtol=0)


def test_more_directions_than_there_are_leave_the_last_one():
    left = remove_directions(collinear_tokens(), 500)
    assert torch.linalg.matrix_rank(left, atol=1e-2) == 1


def test_tokens_that_share_almost_everything_are_told_apart():
    embeddings, anchors = collinear_tokens(), torch.arange(40)
    before = build_relative_matrix(embeddings, anchors, 40).diagonal()
    after = build_relative_matrix(remove_directions(embeddings), anchors, 40).diagonal()
    assert before.median() < 0.1
    assert after.median() > 0.9


def test_by_default_one_direction_goes_for_every_hundred_dimensions():
    generator = torch.Generator().manual_seed(1)
    wide = torch.randn(500, 300, generator=generator)
    torch.testing.assert_close(remove_directions(wide), remove_directions(wide, 3), atol=rounding(500, 2, 5.0), rtol=0)
    narrow = torch.randn(50, 16, generator=generator)
    torch.testing.assert_close(
        remove_directions(narrow), remove_directions(narrow, 1), atol=rounding(50, 2, 5.0), rtol=0
    )


def test_rows_of_unused_tokens_stay_zero_and_do_not_count():
    embeddings = collinear_tokens()
    padded = torch.cat([embeddings, torch.zeros(200, embeddings.shape[1])])
    left = remove_directions(padded, 2)
    assert not left[40:].any()
    torch.testing.assert_close(left[:40], remove_directions(embeddings, 2), atol=ROUNDING, rtol=0)


def test_half_precision_is_taken_and_the_input_stays():
    embeddings = collinear_tokens().bfloat16()
    copy = embeddings.clone()
    assert remove_directions(embeddings, 1).dtype == torch.float32
    assert torch.equal(embeddings, copy)


def test_the_common_part_does_not_depend_on_the_tiles(monkeypatch):
    embeddings = collinear_tokens()
    whole = remove_directions(embeddings, 2)
    monkeypatch.setattr("deepen_llm.fusion.relative.isotropy.TILE_ROWS", 7)
    torch.testing.assert_close(remove_directions(embeddings, 2), whole, atol=ROUNDING, rtol=0)
