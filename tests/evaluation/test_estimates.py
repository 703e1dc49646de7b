from __future__ import annotations

import math

import pytest

from deepen_llm.evaluation.estimates import chance_of_guessing, mean_over_tasks, ratio_estimate, wilson_estimate


@pytest.mark.parametrize(
    ("num_correct", "num_questions", "low", "high"),
    # Worked out by hand from Wilson's formula; 8 of 10 is in many textbooks.
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962)],
)
def test_wilson_intervals(num_correct, num_questions, low, high):
    estimate = wilson_estimate(num_correct, num_questions)
    assert estimate.value == num_correct / num_questions
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(("num_correct", "num_questions"), [(0, 0), (3, 2), (-1, 2)])
def test_impossible_counts_are_refused(num_correct, num_questions):
    with pytest.raises(ValueError, match=f"got {num_correct} of {num_questions}"):
        wilson_estimate(num_correct, num_questions)


def test_every_task_counts_alike_however_many_questions_it_has():
    assert mean_over_tasks([[1.0], [0.0] * 99]).value == 0.5


def test_the_bootstrap_interval_is_that_of_the_normal_approximation_and_always_the_same():
    grades = [[1.0] * 50 + [0.0] * 50]
    estimate = mean_over_tasks(grades)
    assert estimate == mean_over_tasks(grades)
    assert (estimate.low, estimate.high) == pytest.approx((0.5 - 1.96 * 0.05, 0.5 + 1.96 * 0.05), abs=0.015)


def test_equal_grades_leave_no_doubt():
    estimate = mean_over_tasks([[1.0, 1.0], [1.0]])
    assert (estimate.value, estimate.low, estimate.high) == (1.0, 1.0, 1.0)


def test_a_task_without_questions_is_refused():
    with pytest.raises(ValueError, match="at least one question"):
        mean_over_tasks([[1.0], []])


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


@pytest.mark.parametrize(
    ("num_correct", "chances", "expected"),
    # By hand: of two questions, both wrong 3/8, both right 1/8.
    [(0, (0.5, 0.25), 1.0), (1, (0.5, 0.25), 0.625), (2, (0.5, 0.25), 0.125), (0, (), 1.0), (3, (0.5, 0.25), 0.0)],
)
def test_guessing_questions_of_different_chances(num_correct, chances, expected):
    assert chance_of_guessing(num_correct, chances) == expected


@pytest.mark.parametrize("chance", [0.5, 0.25, 0.2])
def test_guessing_questions_of_the_same_chance_is_binomial(chance):
    for num_correct in range(41):
        tail = sum(math.comb(40, k) * chance**k * (1 - chance) ** (40 - k) for k in range(num_correct, 41))
        assert chance_of_guessing(num_correct, [chance] * 40) == pytest.approx(tail, rel=1e-9)
