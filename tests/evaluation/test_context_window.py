from __future__ import annotations

import pytest

from deepen_llm.errors import ContextLengthError
from deepen_llm.evaluation.context_window import split_passages, split_rolling
from deepen_llm.testing import ScriptedMember

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


def test_rolling_pieces_join_to_the_text_and_follow_the_piece_before(make_members):
    members = make_members(100)
    pairs = split_rolling(members, TEXT)
    assert "".join(continuation for _, continuation in pairs) == TEXT
    assert [context for context, _ in pairs] == ["", *(continuation for _, continuation in pairs[:-1])]
    assert all(len(m.vocabulary.encode(a + b)) < 100 for m in members for a, b in pairs)


def test_a_text_that_fits_rolls_in_one_piece_and_an_empty_one_in_none(make_members):
    assert split_rolling(make_members(500), "A short text.") == [("", "A short text.")]
    assert split_rolling(make_members(500), "") == []
