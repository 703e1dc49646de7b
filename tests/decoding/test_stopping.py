from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepen_llm.decoding.stopping import StopMatcher


def run(stop, pieces):
    matcher = StopMatcher(stop)
    released = [matcher.push(piece) for piece in pieces]
    return released, matcher


def test_text_without_stop_strings_passes_at_once():
    released, matcher = run([], ["one ", "two"])
    assert released == ["one ", "two"]
    assert matcher.flush() == ""


def test_a_stop_string_that_spans_pieces_is_held_back_and_cut():
    released, matcher = run(["\n\nQ"], ["yes", "\n", "\n", "Q: more"])
    assert released == ["yes", "", "", ""]
    assert matcher.is_matched
    assert matcher.flush() == ""


def test_held_text_is_released_when_it_turns_out_otherwise():
    released, matcher = run(["STOP"], ["a ST", "AR", "S"])
    assert released == ["a ", "STAR", ""]
    assert matcher.flush() == "S"
    assert not matcher.is_matched


def test_the_first_of_several_stop_strings_counts():
    released, _ = run(["bc", "b"], ["abcd"])
    assert released == ["a"]


def test_nothing_comes_after_a_match():
    _, matcher = run(["x"], ["ax"])
    assert matcher.push("more") == ""


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3), st.data())
def test_any_cut_of_the_text_releases_what_one_piece_would(text, stop, data):
    pieces, rest = [], text
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        pieces, rest = [*pieces, rest[:size]], rest[size:]
    released, matcher = run(stop, pieces)
    whole = "".join(released) + matcher.flush()
    expected = min((text[: text.find(s)] for s in stop if s in text), key=len, default=text)
    if matcher.is_matched:
        assert len(whole) <= len(text)
        assert not any(s in whole for s in stop)
        assert text.startswith(whole)
        assert any(text[len(whole) :].startswith(s) for s in stop)
    assert matcher.is_matched == any(s in text for s in stop)
    if not any(a != b and a in b for a in stop for b in stop):
        assert whole == expected


@pytest.mark.parametrize("stop", [["abab"], ["aab", "ba"]])
def test_what_is_released_early_never_begins_a_stop_string(stop):
    released, matcher = run(stop, list("aaabab"))
    assert not any(s in "".join(released) for s in stop)
    assert matcher.is_matched


def test_a_stop_string_counts_where_it_ends_after_the_text_for_which_it_is_too_early():
    matcher = StopMatcher(["ab", "xaby"])
    assert matcher.push("ab xab", is_too_early=True) == "ab "
    assert matcher.push("c") == "xabc"
    assert matcher.push(" a", is_too_early=True) == " "
    assert matcher.push("b rest") == "" and matcher.is_matched
