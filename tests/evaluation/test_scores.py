from __future__ import annotations

import pytest

from deepen_llm.evaluation.estimates import wilson_estimate
from deepen_llm.evaluation.requests import Answer
from deepen_llm.evaluation.scores import Cost, Scores


def shares(*grades):
    return Scores.of_grades(grades)


def test_shares_have_wilsons_interval():
    assert shares(1, 0, 1, 1).estimate == wilson_estimate(3, 4)


def test_bits_per_byte_weigh_passages_by_their_bytes():
    estimate = Scores((10.0, 300.0), (10.0, 100.0), is_share=False).estimate
    assert estimate.value == pytest.approx(310 / 110)
    assert (estimate.low, estimate.high) == (1.0, 3.0)


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
