"""Memory that is used again."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.fusion.relative.buffer import RowBuffer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_are_gathered_in_float32_in_the_shape_of_their_ids(dtype):
    table = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    ids = torch.tensor([[3, 3, 0], [8, 1, 2]])
    rows = RowBuffer().gather(table, ids)
    assert rows.dtype == torch.float32 and torch.equal(rows, table[ids].float())


def test_memory_is_used_again_and_grows_where_more_rows_are_asked_for():
    buffer, table = RowBuffer(), torch.arange(20.0).view(10, 2)
    first = buffer.gather(table, torch.tensor([[1, 2, 3]]))
    fewer = buffer.gather(table, torch.tensor([[4]]))
    assert fewer.data_ptr() == first.data_ptr() and fewer.tolist() == [[[8.0, 9.0]]]
    more = buffer.gather(table, torch.tensor([[0, 1], [2, 9]]))
    assert torch.equal(more, table[torch.tensor([[0, 1], [2, 9]])])


def test_one_buffer_serves_with_and_without_inference_mode():
    buffer, table = RowBuffer(), torch.arange(20.0).view(10, 2)
    with torch.inference_mode():
        buffer.gather(table, torch.tensor([[1, 2]]))
    assert buffer.gather(table, torch.tensor([[5]])).tolist() == [[[10.0, 11.0]]]
