from __future__ import annotations

import pytest

from deepen_llm import EnsembleConfig
from deepen_llm.evaluation.comparison import best_member, best_on_average, gain_on_best, mean_gain, mean_share
from deepen_llm.evaluation.scores import Cost, Scores
from deepen_llm.evaluation.systems import System, SystemResult, TaskResult
from deepen_llm.evaluation.tasks import BITS_PER_BYTE

COST = Cost.of([])


def result(name, *, is_member=True, bits=None, **grades):
    tasks = {
        task: TaskResult(None if marks is None else Scores.of_grades(mark == "1" for mark in marks), COST)
        for task, marks in grades.items()
    }
    if bits is not None:
        tasks[BITS_PER_BYTE] = TaskResult(Scores(bits, (8.0,) * len(bits), is_share=False), COST)
    return SystemResult(System(name, EnsembleConfig(members=("a",)), is_member), tasks=tasks)


FACTS = result("facts", facts="1111", sums="0000", bits=(16.0, 8.0))
SUMS = result("sums", facts="0001", sums="1111", bits=(24.0, 8.0))
TOGETHER = result("ensemble", is_member=False, facts="1101", sums="1111", bits=(12.0, 8.0))
RESULTS = [FACTS, SUMS, TOGETHER]


def test_the_best_member_of_a_task_has_the_most_right_answers_or_the_fewest_bits():
    best = [best_member(RESULTS, task).system.name for task in ("facts", "sums", BITS_PER_BYTE)]
    assert best == ["facts", "sums", "facts"]
    assert best_member([TOGETHER], "facts") is None


def test_the_gain_in_a_task_is_paired_with_the_member_that_is_best_at_it():
    assert gain_on_best(TOGETHER, RESULTS, "facts").value == pytest.approx(-0.25)
    assert gain_on_best(TOGETHER, RESULTS, "sums").value == 0
    assert gain_on_best(TOGETHER, RESULTS, BITS_PER_BYTE).value == pytest.approx(-0.25)


def test_the_best_member_on_average_has_the_highest_mean_and_the_first_of_equals_counts():
    assert best_on_average(RESULTS) is SUMS
    first, second = result("first", facts="10"), result("second", facts="01")
    assert best_on_average([first, second]) is first
    assert best_on_average([TOGETHER]) is None


def test_the_mean_counts_tasks_with_right_answers_alike_and_leaves_bits_per_byte_out():
    assert mean_share(TOGETHER).value == pytest.approx(0.875)
    assert mean_share(result("long", facts="1", sums="0000")).value == 0.5
    assert mean_share(result("text", bits=(8.0,))) is None


def test_the_mean_gain_is_paired_with_the_member_that_is_best_on_average():
    gain = mean_gain(TOGETHER, RESULTS)
    assert gain.value == pytest.approx(0.25)
    assert gain.low >= 0  # no question was lost to the best member, so no resample can be negative


def test_a_task_that_was_left_out_leaves_no_mean_and_no_gain():
    refused = result("refused", facts=None, sums="1111")
    assert mean_share(refused) is None
    assert mean_gain(refused, RESULTS) is None
    assert best_on_average([refused, FACTS]) is FACTS
    assert gain_on_best(refused, RESULTS, "facts") is None
