from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepen_llm.evaluation.grading import (
    best_option,
    first_letter,
    first_line,
    is_among,
    is_number,
    last_number,
    normalize_answer,
)

LOGPROBS = st.floats(-50, -0.01) | st.just(-math.inf)


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


@pytest.mark.parametrize(
    ("logprobs", "texts", "best"),
    [
        ((-3.0, -4.0), None, 0),
        ((-3.0, -4.0), ("four", "and eight"), 1),
        # Per character the second is better, -0.83 to -1.5; per byte the first, -0.75: "é" has two.
        ((-3.0, -2.5), ("éé", "abc"), 0),
        ((-1.0, -1.0), None, 0),
        ((-4.0, -2.0), ("four", "be"), 0),
        ((-0.1, -9.0), ("", "run"), 1),
        ((-math.inf, -9.0), ("sleep", "run"), 1),
        ((-0.1, -0.2), ("", ""), None),
        ((-math.inf, -math.inf), None, None),
        ((), None, None),
    ],
)
def test_the_best_option_is_the_most_probable_by_text_per_byte_and_of_equals_the_first(logprobs, texts, best):
    assert best_option(logprobs, texts) == best


@given(st.lists(st.tuples(LOGPROBS, st.text(max_size=12)), min_size=1, max_size=6), st.randoms())
def test_the_order_of_the_options_does_not_matter_but_for_equals(options, random):
    def value(option):
        logprob, text = option
        return logprob / len(text.encode()) if text else -math.inf

    shuffled = random.sample(options, len(options))
    found = [best_option(*zip(*order, strict=True)) for order in (options, shuffled)]
    values = [
        -math.inf if at is None else value(order[at]) for at, order in zip(found, (options, shuffled), strict=True)
    ]
    assert values[0] == values[1] == max(map(value, options))


@given(LOGPROBS, st.text(min_size=1, max_size=8), st.integers(1, 4))
def test_a_text_said_twice_at_twice_the_cost_is_as_good_as_once(logprob, text, times):
    assert best_option((logprob, logprob * 2**times), (text, text * 2**times)) in (0, None)
    assert best_option((logprob * 2**times, logprob), (text * 2**times, text)) in (0, None)
