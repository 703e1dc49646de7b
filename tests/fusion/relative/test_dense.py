"""The dense form's tables, and the search over every token."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.errors import NumericalError
from deepen_llm.fusion.base import Distribution, Distributions, Step
from deepen_llm.fusion.relative.candidates import Contribution
from deepen_llm.fusion.relative.dense import DenseTables, FullSearch
from deepen_llm.fusion.relative.inverse import InverseSearch
from deepen_llm.fusion.relative.space import build_relative_matrix
from tests.fusion.relative.test_method import make_spaces
from tests.rounding import rounding

CPU = torch.device("cpu")
SPACE = make_spaces((30,), 12, num_special=4)[0]
MATRIX = build_relative_matrix(SPACE.embeddings, SPACE.anchor_ids, 30).double()
IDS = torch.tensor([[5, 29, 0], [7, 7, 3]])
PROBS = torch.tensor([[0.2, 0.3, 0.1, 0.4], [0.25, 0.25, 0.5, 0.0]])
ROUNDING = rounding(num_terms=30, num_steps=2)


def with_residual(ids):
    """The rows of tokens, and after them the mean row of those that may come."""
    return torch.cat([MATRIX[ids], MATRIX[SPACE.allowed].mean(dim=0, keepdim=True)])


def test_rows_are_those_of_the_matrix_and_the_residual_has_the_mean_row_of_what_may_come():
    rows = DenseTables.build(SPACE, CPU).rows(IDS, None)
    assert rows.shape == (2, 4, 12) and rows.dtype == torch.float32
    for row, ids in enumerate(IDS):
        torch.testing.assert_close(rows[row].double(), with_residual(ids), atol=ROUNDING, rtol=0)


def test_mixing_is_the_product_with_the_rows():
    tables = DenseTables.build(SPACE, CPU)
    mixed = tables.mix(PROBS, IDS, None)
    for row, ids in enumerate(IDS):
        torch.testing.assert_close(mixed[row].double(), PROBS[row].double() @ with_residual(ids), atol=ROUNDING, rtol=0)
    probs = torch.randn(3, 30, generator=torch.Generator().manual_seed(1)).softmax(dim=-1)
    torch.testing.assert_close(tables.mix_all(probs).double(), probs.double() @ MATRIX, atol=ROUNDING, rtol=0)


def test_memory_is_the_matrix_with_the_residuals_row_and_the_own_anchors():
    assert DenseTables.build(SPACE, CPU).num_bytes == 31 * 12 * 4 + 30 * (8 + 4)


def test_embeddings_with_nan_are_refused():
    space = make_spaces((30,), 12)[0]
    space.embeddings[5, 3] = torch.nan
    with pytest.raises(NumericalError, match="the first is row 5"):
        DenseTables.build(space, CPU)


@pytest.mark.parametrize("kind", ["multiplicative", "gradient"])
def test_without_steps_the_search_over_every_token_gives_what_it_began_with(kind):
    tables = [DenseTables.build(SPACE, CPU)] * 2
    logprobs = torch.randn(2, 30, generator=torch.Generator().manual_seed(2)).log_softmax(dim=-1)
    other = Distribution(1, None, logprobs.flip(0).exp())
    step = Step.build(Distributions(0, logprobs, logprobs.exp(), [other], 2), torch.full((2, 2), 0.5))
    given = [Contribution(tables[1], step.weight(1), other.own)]
    assert FullSearch(tables, 0, InverseSearch(kind, 0, 0.15)).find(step, given) is logprobs
    assert not torch.equal(FullSearch(tables, 0, InverseSearch(kind, 5, 0.15)).find(step, given), logprobs)
