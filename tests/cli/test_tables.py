from __future__ import annotations

import math

import pytest

from deepen_llm import EnsembleConfig
from deepen_llm.cli.tables import describe_gain, estimate_cell, format_bytes
from deepen_llm.evaluation import Cost, Estimate, Scores, System, SystemResult, TaskResult


def reached(name, *rights, is_member=True):
    tasks = {
        f"task{i}": TaskResult(Scores.of_grades([True] * right + [False] * (10 - right)), Cost.of([]))
        for i, right in enumerate(rights)
    }
    return SystemResult(System(name, EnsembleConfig(members=("a",)), is_member), tasks=tasks)


def gain(ensemble, *members):
    together = reached("ensemble", *ensemble, is_member=False)
    return describe_gain(together, [*(reached(f"member{i}", *given) for i, given in enumerate(members)), together])


def test_the_gain_is_told_against_the_best_single_member():
    assert gain((9, 9), (5, 5), (8, 2)).startswith(
        "The ensemble is 40.0 points above the best single member, member0 (95% interval "
    )
    assert "10.0 points below the best single member, member1" in gain((5, 5), (1, 1), (6, 6))


def test_without_members_alone_there_is_nothing_to_gain_on():
    assert "nothing to compare the ensemble with" in gain((9, 9))


@pytest.mark.parametrize(
    ("estimate", "is_share", "entries"),
    [
        (Estimate(0.5, 0.25, 0.75), True, ("50.0", "25-75")),
        (Estimate(1.5, 1.25, 1.75), False, ("1.500", "1.25-1.75")),
        (Estimate(1.5, math.nan, math.nan), False, ("1.500", "no interval")),
        (Estimate(math.inf, math.inf, math.inf), False, ("infinite",)),
        (None, True, ("left out",)),
    ],
)
def test_an_estimate_comes_with_its_interval(estimate, is_share, entries):
    assert estimate_cell(estimate, is_share=is_share) == entries


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (66_123_456, "66.1 MB"), (2e15, "2e+03 TB")]
)
def test_bytes_have_decimal_units(number, text):
    assert format_bytes(number) == text
