from __future__ import annotations

import pytest

from deepen_llm import EnsembleConfig
from deepen_llm.evaluation import Comparison, Contestant
from deepen_llm.evaluation.comparison import each_alone


def contestant(name, **grades):
    return Contestant(name, {task: tuple(mark == "1" for mark in marks) for task, marks in grades.items()})


@pytest.fixture
def comparison():
    members = (
        contestant("facts", facts="1111", sums="0000"),
        contestant("sums", facts="0001", sums="1111"),
    )
    return Comparison(members, contestant("ensemble", facts="1101", sums="1111"))


def test_the_best_member_is_the_one_with_the_highest_mean(comparison):
    assert comparison.best_member.name == "sums"


def test_the_gain_is_paired_with_the_best_member(comparison):
    gain = comparison.gain
    assert gain.value == pytest.approx(0.25)
    assert gain.low >= 0  # no question was lost to the best member, so no resample can be negative


def test_margins_are_against_the_best_member_of_each_task(comparison):
    assert comparison.margin("facts") == pytest.approx(-0.25)
    assert comparison.margin("sums") == 0


def test_accuracy_and_mean_of_a_contestant(comparison):
    assert comparison.ensemble.accuracy("facts").value == 0.75
    assert comparison.ensemble.mean.value == pytest.approx(0.875)
    assert comparison.tasks == ("facts", "sums")


def test_each_alone_keeps_a_members_settings_and_drops_what_belongs_to_the_ensemble():
    config = EnsembleConfig(
        members=({"model": "a", "dtype": "float16"}, "b"), weights=(0.3, 0.7), main=1, max_batch_size=4
    )
    first, second = each_alone(config)
    assert first.members == config.members[:1] and second.members == config.members[1:]
    assert (first.weights, first.main, first.max_batch_size) == (None, 0, 4)
