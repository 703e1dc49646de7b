from __future__ import annotations

import pytest
from rich.console import Console

from deepen_llm.cli.narrow_table import NarrowTable

FIGURES = ("131,072", "0.87", "12.5% of 1,234")
COLUMNS = ("member", "tokens of it", "bits per byte", "of the first's ends")


def render(table, width):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_names_wrap_after_hyphens_and_figures_are_never_cut():
    name = "a-name-much-longer-than-its-column-has-room-for"
    lines = render(NarrowTable("Title", COLUMNS, [(name, *FIGURES)]), 56)
    assert lines[:2] == ["", "Title"]
    assert all(len(line) <= 56 for line in lines)
    rows = lines[next(at for at, line in enumerate(lines) if "─" in line) + 1 :]
    parts = [line.split()[0] for line in rows]
    assert "".join(parts) == name
    assert all(part.endswith("-") for part in parts[:-1])
    assert rows[0].split()[1:] == [word for figure in FIGURES for word in figure.split()]


def test_where_the_columns_do_not_fit_every_row_is_a_list_of_its_cells():
    lines = render(NarrowTable("Title", COLUMNS, [("one", *FIGURES), ("two", *FIGURES)]), 30)
    assert lines[:6] == [
        "",
        "Title",
        "member: one",
        "  tokens of it: 131,072",
        "  bits per byte: 0.87",
        "  of the first's ends: 12.5%",
    ]
    assert "member: two" in lines
    assert not any("─" in line for line in lines)


@pytest.mark.parametrize("width", [25, 40, 60, 80])
def test_entries_are_never_broken_over_two_lines(width):
    entries = tuple(f"' token{number}' {number}0.0%" for number in range(1, 6))
    lines = render(
        NarrowTable("Title", ("step", "best"), [("1", entries), ("", entries)], loose=(1,), left=(1,)), width
    )
    assert all(len(line) <= width for line in lines)
    assert sum(line.count(entry) for line in lines for entry in entries) == 10


def test_rows_that_belong_together_stand_apart_from_others():
    lines = render(NarrowTable("Title", ("a", "b"), [("1", "x"), ("", "y"), ("2", "z")]), 80)
    assert lines[4:] == ["1  x", "   y", "", "2  z"]


def test_an_entry_wider_than_the_terminal_is_chopped_and_whole():
    entry = "a" * 50
    lines = render(NarrowTable("Title", ("a", "b"), [("1", (entry,))], loose=(1,)), 20)
    assert entry in "".join(map(str.strip, lines))
    assert all(len(line) <= 20 for line in lines)


def test_headings_take_two_lines_at_most():
    lines = render(NarrowTable("Title", ("member", "KV cache for 1,000 tokens"), [("a", "7 kB")]), 80)
    assert [line.split() for line in lines[2:]] == [
        ["KV", "cache", "for"],
        ["member", "1,000", "tokens"],
        [lines[4]],
        ["a", "7", "kB"],
    ]


def test_wide_characters_take_their_two_columns():
    assert render(NarrowTable("Title", ("a", "b"), [("模型", "模型" * 9)]), 80)[-1] == "模型  " + "模型" * 9
