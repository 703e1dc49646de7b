"""Distributions of four numbers, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from deepen_llm.config import SamplingParams
from deepen_llm.decoding.sampling import (
    apply_filters,
    apply_min_p,
    apply_temperature,
    apply_top_k,
    apply_top_p,
    make_generator,
    sample,
)

PROBS = torch.tensor([0.1, 0.4, 0.2, 0.3])


def kept(logprobs):
    return [index for index, value in enumerate(logprobs.tolist()) if value > -math.inf]


def test_temperature_two_takes_square_roots():
    hot = apply_temperature(PROBS.log(), 2.0).softmax(dim=-1)
    torch.testing.assert_close(hot, PROBS.sqrt() / PROBS.sqrt().sum())


@pytest.mark.parametrize(("top_k", "expected"), [(1, [1]), (2, [1, 3]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])])
def test_top_k_keeps_the_best(top_k, expected):
    assert kept(apply_top_k(PROBS.log(), top_k)) == expected


@pytest.mark.parametrize(
    ("top_p", "expected"), [(0.01, [1]), (0.39, [1]), (0.41, [1, 3]), (0.71, [1, 2, 3]), (0.95, [0, 1, 2, 3])]
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p, expected):
    assert kept(apply_top_p(PROBS.log(), top_p)) == expected


@pytest.mark.parametrize(("min_p", "expected"), [(0.2, [0, 1, 2, 3]), (0.3, [1, 2, 3]), (0.6, [1, 3]), (0.99, [1])])
def test_min_p_is_relative_to_the_best(min_p, expected):
    assert kept(apply_min_p(PROBS.log(), min_p)) == expected


def test_filters_work_on_batches_and_keep_the_last_dimension():
    batch = torch.stack([PROBS, PROBS.flip(0)]).log()
    for change in (lambda x: apply_top_k(x, 2), lambda x: apply_top_p(x, 0.5), lambda x: apply_min_p(x, 0.6)):
        assert kept(change(batch)[0]) == [1, 3]
        assert kept(change(batch)[1]) == [0, 2]


def test_temperature_comes_before_the_filters():
    params = SamplingParams(temperature=0.5, min_p=0.5)
    assert kept(apply_filters(PROBS.log(), params)) == [1, 3]
    assert kept(apply_filters(PROBS.log(), params.replace(temperature=1.0))) == [1, 2, 3]


def test_samples_follow_the_distribution():
    generator = make_generator(SamplingParams(seed=5))
    counts = torch.zeros(4)
    for _ in range(4000):
        counts[sample(PROBS.log(), generator)] += 1
    torch.testing.assert_close(counts / 4000, PROBS, atol=0.03, rtol=0)


def test_a_forbidden_token_is_never_drawn():
    logprobs = torch.tensor([-math.inf, 0.0, -math.inf, -math.inf])
    generator = make_generator(SamplingParams(seed=1))
    assert {sample(logprobs, generator) for _ in range(50)} == {1}


def test_the_same_seed_draws_the_same_tokens_and_no_seed_does_not():
    def draw(seed):
        generator = make_generator(SamplingParams(seed=seed))
        return [sample(PROBS.log(), generator) for _ in range(40)]

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)
    assert draw(None) != draw(None)
