from __future__ import annotations

import math

import pytest
import torch

from deepen_llm.errors import NumericalError
from deepen_llm.fusion.relative import space
from deepen_llm.fusion.relative.space import build_relative_matrix, find_own_anchors
from tests import reference
from tests.rounding import rounding

ONE_CAST = rounding(num_terms=1)
"""The matrix is made in float64 and cast once."""


@pytest.mark.parametrize(
    ("num_rows", "hidden", "num_anchors", "dtype"),
    [
        (1, 1, 1, torch.float32),
        (2, 3, 1, torch.float64),
        (7, 5, 3, torch.float32),
        (33, 17, 31, torch.float32),
        (65, 8, 64, torch.bfloat16),
        (40, 16, 40, torch.float16),
    ],
)
def test_the_matrix_equals_the_reference_loops(num_rows, hidden, num_anchors, dtype):
    generator = torch.Generator().manual_seed(num_rows)
    embeddings = torch.randn(num_rows, hidden, generator=generator).to(dtype)
    anchor_ids = torch.randperm(num_rows, generator=generator)[:num_anchors]

    matrix = build_relative_matrix(embeddings, anchor_ids, num_rows)

    expected = reference.relative_matrix(embeddings.double().tolist(), anchor_ids.tolist(), num_rows)
    assert matrix.dtype == torch.float32
    torch.testing.assert_close(matrix.double(), torch.tensor(expected, dtype=torch.float64), atol=ONE_CAST, rtol=0)


def test_the_matrix_of_three_tokens_worked_out_by_hand():
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])

    matrix = build_relative_matrix(embeddings, torch.tensor([0, 1]), 3)

    # Token 0 has the cosines (1, 0): logits 100 and 0. Token 2 has two equal cosines.
    torch.testing.assert_close(matrix, torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]), atol=ONE_CAST, rtol=0)


def test_the_size_of_the_tiles_changes_nothing(monkeypatch):
    embeddings = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    anchor_ids = torch.arange(0, 50, 2)
    whole = build_relative_matrix(embeddings, anchor_ids, 50)

    monkeypatch.setattr(space, "TILE_ELEMENTS", 1)

    torch.testing.assert_close(build_relative_matrix(embeddings, anchor_ids, 50), whole, atol=ONE_CAST, rtol=0)


def test_a_token_without_an_embedding_or_with_a_zero_one_has_a_uniform_row_and_harms_no_other():
    embeddings = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    embeddings[2] = 0.0

    matrix = build_relative_matrix(embeddings, torch.tensor([0, 2, 4, 5]), 8)

    assert matrix.isfinite().all()
    torch.testing.assert_close(matrix.sum(dim=-1), torch.ones(8), atol=rounding(4), rtol=0)
    for token in (2, 6, 7):
        torch.testing.assert_close(matrix[token], torch.full((4,), 0.25), atol=ONE_CAST, rtol=0)
    expected = reference.relative_matrix(embeddings.double().tolist(), [0, 2, 4, 5], 8)
    torch.testing.assert_close(matrix, torch.tensor(expected), atol=ONE_CAST, rtol=0)


def test_embeddings_wider_than_the_logits_are_cut():
    embeddings = torch.randn(9, 4, generator=torch.Generator().manual_seed(2))
    anchor_ids = torch.tensor([1, 3])

    matrix = build_relative_matrix(embeddings, anchor_ids, 5)

    torch.testing.assert_close(matrix, build_relative_matrix(embeddings[:5], anchor_ids, 5), atol=ONE_CAST, rtol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_embeddings_that_are_not_finite_are_refused(value):
    embeddings = torch.ones(5, 3)
    embeddings[3, 1] = value

    with pytest.raises(NumericalError, match=r"must be finite; 1 of 5 rows .* first is row 3: load an undamaged"):
        build_relative_matrix(embeddings, torch.tensor([0]), 5)


def test_a_parameter_can_be_given_as_it_is():
    embeddings = torch.nn.Parameter(torch.randn(4, 3, generator=torch.Generator().manual_seed(3)))

    assert not build_relative_matrix(embeddings, torch.tensor([0, 1]), 4).requires_grad


def test_a_tokens_own_anchor_is_itself_or_the_one_it_is_most_like():
    matrix = torch.tensor([[0.4, 0.6], [0.9, 0.1], [0.3, 0.7], [0.8, 0.2]])

    # Token 0 is anchor 0 although it looks more like anchor 1.
    assert find_own_anchors(matrix, torch.tensor([0, 2])).tolist() == [0, 0, 1, 0]
