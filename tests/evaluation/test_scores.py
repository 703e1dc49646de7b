from __future__ import annotations

import math

import pytest

from deepen_llm.evaluation.estimates import wilson_estimate
from deepen_llm.evaluation.requests import Answer
from deepen_llm.evaluation.scores import Cost, Scores, ratio_estimate


def shares(*values):
    return Scores(tuple(map(float, values)), (1.0,) * len(values))


def test_shares_have_wilsons_interval():
    assert shares(1, 0, 1, 1).estimate == wilson_estimate(3, 4)


def test_bits_per_byte_weigh_passages_by_their_bytes():
    estimate = Scores((10.0, 300.0), (10.0, 100.0), is_share=False).estimate
    assert estimate.value == pytest.approx(310 / 110)
    assert (estimate.low, estimate.high) == (1.0, 3.0)


def test_a_constant_rate_has_an_interval_without_width():
    estimate = ratio_estimate([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((2.0, 2.0, 2.0))


def test_text_without_probability_is_infinite_and_not_nan():
    estimate = ratio_estimate([1.0, math.inf], [1.0, 1.0])
    assert (estimate.value, estimate.low, estimate.high) == (math.inf,) * 3


def test_a_single_question_has_no_interval():
    estimate = ratio_estimate([3.0], [2.0])
    assert estimate.value == 1.5 and math.isnan(estimate.low) and math.isnan(estimate.high)


def test_no_questions_are_refused():
    with pytest.raises(ValueError, match="at least one question"):
        ratio_estimate([], [])


def test_differences_are_paired():
    difference = shares(1, 0, 1, 0).minus(shares(0, 0, 1, 0))
    assert difference.value == 0.25
    same = shares(1, 0, 1, 0).minus(shares(1, 0, 1, 0))
    assert (same.low, same.high) == (0.0, 0.0)


def test_other_questions_cannot_be_compared():
    with pytest.raises(ValueError, match="the same; got 2 and 3 questions"):
        shares(1, 0).minus(shares(1, 0, 1))


def test_cost_adds_up_over_answers():
    answers = [
        Answer(4, num_steps=4, num_fused=1, seconds=0.5),
        Answer(2, num_steps=2, num_fused=2, is_shortened=True, seconds=1.5),
    ]
    cost = Cost.of(answers)
    assert (cost.tokens_per_s, cost.fused_share, cost.num_shortened) == (3.0, 0.5, 1)


def test_cost_of_nothing_has_no_rates():
    cost = Cost.of([])
    assert (cost.tokens_per_s, cost.fused_share) == (None, None)
