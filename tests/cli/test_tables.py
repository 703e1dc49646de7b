from __future__ import annotations

import math

import pytest
from rich.console import Console

from deepen_llm import EnsembleConfig
from deepen_llm.cli.tables import describe_gain, estimate_cell, format_bytes, narrow_table
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
    ("estimate", "is_share", "text"),
    [
        (Estimate(0.5, 0.25, 0.75), True, "50.0\n25-75"),
        (Estimate(1.5, 1.25, 1.75), False, "1.500\n1.25-1.75"),
        (Estimate(1.5, math.nan, math.nan), False, "1.500\nno interval"),
        (Estimate(math.inf, math.inf, math.inf), False, "infinite"),
        (None, True, "left out"),
    ],
)
def test_an_estimate_has_its_interval_on_the_line_below(estimate, is_share, text):
    assert estimate_cell(estimate, is_share=is_share).plain == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (66_123_456, "66.1 MB"), (2e15, "2e+03 TB")]
)
def test_bytes_have_decimal_units(number, text):
    assert format_bytes(number) == text


def render(table, width):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get().splitlines()


def test_a_narrow_table_folds_names_and_never_cuts_them_or_figures():
    name = "a-name-much-longer-than-its-column-has-room-for"
    figures = ("131,072", "0.87", "12.5% of 1,234")
    columns = ("member", "tokens of it", "bits per byte", "of the first's ends")
    lines = render(narrow_table("Title", columns, [(name, *figures)]), 50)
    assert lines[:2] == ["", "Title"]
    assert all(len(line) <= 50 for line in lines)
    rows = lines[next(at for at, line in enumerate(lines) if "─" in line) + 1 :]
    assert "".join(line.split()[0] for line in rows) == name
    assert rows[0].split()[1:] == [word for figure in figures for word in figure.split()]


def test_headings_of_a_narrow_table_take_two_lines_at_most():
    lines = render(narrow_table("Title", ("member", "KV cache for 1,000 tokens"), [("a", "7 kB")]), 80)
    assert [line.split() for line in lines[2:]] == [
        ["KV", "cache", "for"],
        ["member", "1,000", "tokens"],
        [lines[4]],
        ["a", "7", "kB"],
    ]


def test_wide_characters_take_their_two_columns():
    assert render(narrow_table("Title", ("a", "b"), [("模型", "模型" * 9)]), 80)[-1] == "模型  " + "模型" * 9
