from __future__ import annotations

import pytest

from deepen_llm.errors import ContextLengthError
from deepen_llm.evaluation.context_window import fit_prompt, fits, split_passages, split_rolling
from deepen_llm.testing import ScriptedMember

PROMPT = "First example here.\n\nSecond example here.\n\nLast question?"
TEXT = "".join(f"Tale {n}. The fox saw {n} hens. It ran home, and slept.\n\n" for n in range(12))


@pytest.fixture
def make_members(vocabularies):
    return lambda length: [ScriptedMember(vocabularies[kind], [], context_length=length) for kind in vocabularies]


@pytest.mark.parametrize("length", [40, 100, 200])
def test_every_passage_fits_every_member_and_no_word_is_lost(make_members, length):
    members = make_members(length)
    passages = split_passages(members, TEXT)
    assert len(passages) > 1
    whole = [passage.beginning + passage.continuation for passage in passages]
    assert " ".join(whole).split() == TEXT.split()
    assert all(len(m.vocabulary.encode_prompt(text).ids) < length for m in members for text in whole)


def test_only_the_first_word_of_a_passage_is_not_scored(make_members):
    (passage,) = split_passages(make_members(500), "  Élan vital.\n")
    assert (passage.beginning, passage.continuation) == ("Élan", " vital.")
    assert passage.num_bytes == len(" vital.")


def test_passages_end_where_paragraphs_do_if_they_can(make_members):
    passages = split_passages(make_members(200), TEXT)
    assert all(passage.beginning == "Tale" for passage in passages)


def test_a_single_word_gives_no_passage(make_members):
    assert split_passages(make_members(100), "word\n") == []


def test_a_stretch_without_a_space_that_is_too_long_is_refused(make_members):
    with pytest.raises(
        ContextLengthError, match="a stretch without a space is too long for the members, it begins 'xyxy"
    ):
        split_passages(make_members(40), "xy" * 400)


def test_a_stretch_that_is_too_long_is_refused_also_after_a_space(make_members):
    with pytest.raises(ContextLengthError, match="a stretch without a space"):
        split_passages(make_members(40), "the " + "x" * 1000 + " end")


def test_passages_are_no_longer_than_asked_for_unless_there_is_no_space_for_so_long(make_members):
    members = make_members(10_000)
    assert len(split_passages(members, TEXT)) == 1
    short = split_passages(members, TEXT, max_characters=150)
    assert all(len(passage.beginning + passage.continuation) <= 150 for passage in short)
    assert " ".join(passage.beginning + passage.continuation for passage in short).split() == TEXT.split()
    long = split_passages(members, "the fox " + "x" * 1000 + " end of it", max_characters=150)
    assert [(passage.beginning, len(passage.continuation)) for passage in long] == [("the", 4), ("x" * 1000, 10)]


def test_rolling_pieces_join_to_the_text_and_follow_the_piece_before(make_members):
    members = make_members(100)
    pairs = split_rolling(members, TEXT)
    assert "".join(continuation for _, continuation in pairs) == TEXT
    assert [context for context, _ in pairs] == ["", *(continuation for _, continuation in pairs[:-1])]
    assert all(len(m.vocabulary.encode(a + b)) < 100 for m in members for a, b in pairs)


def test_a_text_that_fits_rolls_in_one_piece_and_an_empty_one_in_none(make_members):
    assert split_rolling(make_members(500), "A short text.") == [("", "A short text.")]
    assert split_rolling(make_members(500), "") == []


def test_a_prompt_that_fits_stays_as_it_is(make_members):
    assert fit_prompt(make_members(512), PROMPT, 8) == PROMPT


def test_whole_examples_go_first_and_every_member_fits(make_members):
    needed = max(len(m.vocabulary.encode_prompt("Second example here.\n\nLast question?").ids) for m in make_members(9))
    members = make_members(needed + 9)
    assert fit_prompt(members, PROMPT, 8) == "Second example here.\n\nLast question?"
    assert not fits(members[0], PROMPT, 8) or not all(fits(member, PROMPT, 8) for member in members)


def test_lines_go_before_words(make_members):
    text = "one two three four five six\nseven eight"
    needed = max(len(m.vocabulary.encode_prompt("seven eight").ids) for m in make_members(9))
    assert fit_prompt(make_members(needed + 4), text, 3) == "seven eight"


def test_a_continuation_takes_its_room(make_members):
    (member, *_) = make_members(64)
    assert fits(member, "one", " two")
    assert not fits(member, "one", " two" * 64)


def test_a_prompt_whose_last_word_does_not_fit_is_refused(make_members):
    with pytest.raises(ContextLengthError, match="not even the end of the prompt fits into 10 tokens"):
        fit_prompt(make_members(10), PROMPT, 9)
