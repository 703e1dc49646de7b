from __future__ import annotations

from decimal import Decimal

import pytest

from deepen_llm.evaluation.grading import first_letter, first_line, is_among, is_number, last_number, normalize_answer


def test_short_answers_are_compared_without_case_articles_and_punctuation():
    assert normalize_answer(" The Eiffel-Tower! ") == "eiffel tower"
    assert is_among("\n The Danube.\nQuestion: next", ["Danube"])
    assert not is_among("the Danube or the Rhine", ["Danube"])


def test_the_first_line_is_the_first_that_is_not_empty():
    assert first_line("\n \n Danube \nRhine") == " Danube "
    assert first_line(" \n") == ""


def test_an_empty_answer_is_never_right():
    assert not is_among(" \n ", ["the"])
    assert not is_among("", [""])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12 + 3 = 15. The answer is 15.", "15"),
        ("so it costs $1,250.50 in all", "1250.50"),
        ("it falls to -10 degrees", "-10"),
        ("none", None),
    ],
)
def test_the_last_number_of_a_worked_answer_counts(text, number):
    assert last_number(text) == (None if number is None else Decimal(number))


def test_numbers_are_compared_by_value():
    assert is_number("The answer is 2,125.00", "2125")
    assert not is_number("The answer is 212", "2125")
    assert not is_number("no idea", "2125")


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("B", 1),
        ("The answer is (C).", 2),
        ("A plant needs D.", 3),
        ("A.", 0),
        ("Because E is wrong, B", 1),
        ("none", None),
    ],
)
def test_the_first_letter_that_stands_alone_names_the_option(text, option):
    assert first_letter(text, 4) == option
