from __future__ import annotations

import pytest
import torch

from deepen_llm.fusion.relative.largest import largest


@pytest.mark.parametrize("width", [1, 8, 63, 64, 512, 513, 640, 1000, 2111])
@pytest.mark.parametrize("count", [1, 8])
def test_the_largest_entries_are_those_of_topk(width, count):
    entries = torch.randn(20, width, generator=torch.Generator().manual_seed(width))
    count = min(count, width)
    values, places = largest(entries, count)
    expected = entries.topk(count, dim=-1)
    assert torch.equal(values, expected.values)
    assert torch.equal(places, expected.indices)
