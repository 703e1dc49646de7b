from __future__ import annotations

from deepen_llm.weighting.base import FixedWeighting


def test_fixed_weights_are_the_same_for_every_request_whatever_they_are_told():
    weighting = FixedWeighting([0.25, 0.75])
    assert not weighting.learns
    weights = weighting.begin([[1, 2], [3]])
    weights.update([0.1, 0.9])
    assert weights.current == weighting.begin([[9], [9]]).current == (0.25, 0.75)
