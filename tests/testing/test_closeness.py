"""How much two computations of one distribution may differ, worked out by hand on few logits."""

from __future__ import annotations

import math

import pytest
import torch

from deepen_llm.testing.closeness import error_of_kl, find_difference, kl_divergence, kl_of_error, rounding_error


def test_the_divergence_of_two_tokens_is_that_of_their_probabilities():
    first, second = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert kl_divergence(first, second + 3.0) == pytest.approx(expected, abs=1e-7)
    assert kl_divergence(first, first) == 0.0


def test_a_token_that_both_rule_out_does_not_count_and_one_that_only_the_second_does_is_infinitely_far():
    ruled, whole = torch.tensor([0.0, 0.0, -math.inf]), torch.tensor([0.0, 0.0, 0.0])
    assert kl_divergence(ruled, ruled) == 0.0
    assert kl_divergence(whole, ruled) == math.inf
    assert kl_divergence(ruled, whole) == pytest.approx(math.log(1.5))


@pytest.mark.parametrize("error", [1e-4, 1e-2, 1.0])
def test_the_divergence_never_exceeds_what_the_error_of_the_logits_allows(error):
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        logits = 5 * torch.randn(40, generator=generator, dtype=torch.float64)
        moved = logits + error * (torch.randint(2, (40,), generator=generator) * 2 - 1)
        assert 0.0 <= kl_divergence(logits, moved) + 1e-15 <= kl_of_error(error)
    assert error_of_kl(kl_of_error(error)) == pytest.approx(error)


def test_another_order_of_summing_stays_within_the_rounding_error():
    generator = torch.Generator().manual_seed(0)
    states, weights = torch.randn(64, 512, generator=generator), torch.randn(512, 512, generator=generator)
    shuffled = torch.randperm(512, generator=generator)
    logits, others = states @ weights, states[:, shuffled] @ weights[shuffled]
    allowed = rounding_error(float(logits.abs().max()), dtype=torch.float32, num_layers=0, hidden=512)
    assert 0.0 < float((logits - others).abs().max()) < allowed
    assert allowed < 1e-2


def test_best_tokens_may_differ_where_they_are_as_near_as_the_bound_explains_and_nowhere_else():
    expected = torch.tensor([1.0, 1.001, 0.0])
    assert find_difference(expected, expected, 0.0) is None
    assert find_difference(torch.tensor([1.001, 1.0, 0.0]), expected, kl_of_error(0.002)) is None
    far = find_difference(torch.tensor([2.0, 1.0, 0.0]), expected, kl_of_error(0.002))
    assert far is not None and far.startswith("KL divergence 0.")
    # One of many tokens: a small divergence, and yet the best of them is another.
    flat = torch.zeros(10_000)
    due, got = flat.clone(), flat.clone()
    due[3], got[5] = 0.5, 0.5
    assert kl_divergence(due, got) < 1e-4
    assert find_difference(got, due, 1e-4) == "best token 5 instead of 3, whose logit is 0.5 greater"
    assert "KL divergence nan" in str(find_difference(flat + math.nan, due, 1e-4))
