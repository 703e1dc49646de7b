"""A member's logits as a distribution over its different tokens."""

from __future__ import annotations

import math

import pytest
import torch

from deepen_llm.fusion.tokens import CanonicalTokens
from tests.rounding import rounding

CPU = torch.device("cpu")
IDS = [0, -1, 0, 3, 3, 0, 3]
"""Token 1 may not come; 0, 2 and 5 are one, 3, 4 and 6 another."""


def make_tokens(ids=IDS):
    return CanonicalTokens.build(ids, CPU)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_mass_of_tokens_that_count_as_one_is_on_one_of_them(dtype):
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    before = logits.clone()
    tokens = make_tokens()
    weights = logits.double().exp()
    weights[:, 1] = 0
    exact = weights / weights.sum(dim=-1, keepdim=True)
    expected = torch.zeros(4, 7, dtype=torch.float64)
    expected[:, 0], expected[:, 3] = exact[:, [0, 2, 5]].sum(dim=-1), exact[:, [3, 4, 6]].sum(dim=-1)
    for found in (tokens.logprobs(logits).exp(), tokens.probs(logits)):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, atol=rounding(7, 4), rtol=0)
    assert torch.equal(logits, before)


def test_what_may_not_come_is_impossible_and_so_is_what_counts_as_another():
    logprobs = make_tokens().logprobs(torch.randn(2, 7))
    assert torch.equal(
        logprobs == -math.inf, torch.tensor([target != at for at, target in enumerate(IDS)]).expand(2, -1)
    )


def test_where_every_token_counts_for_itself_nothing_is_merged():
    tokens = make_tokens([0, 1, -1])
    logits = torch.randn(3, 3)
    assert not tokens.merges
    masked = logits.masked_fill(torch.tensor([False, False, True]), -math.inf)
    assert torch.equal(tokens.logprobs(logits), masked.log_softmax(dim=-1))


def test_in_each_round_of_merging_no_token_gets_mass_twice():
    for _, targets in make_tokens().merges:
        assert len(set(targets.tolist())) == len(targets)
    assert make_tokens().num_bytes > 0


def test_logits_far_apart_stay_free_of_nan():
    logits = torch.full((1, 7), -3e38)
    logits[0, 1] = 3e38
    logits[0, 5] = 0.0
    assert make_tokens().logprobs(logits)[0, 0] == 0
    assert make_tokens().probs(logits).tolist()[0][0] == 1
