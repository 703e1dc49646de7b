"""Texts far beyond a context are refused by their beginning."""

from __future__ import annotations

import pytest

from deepen_llm.errors import ContextLengthError, MemberTimeoutError
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.requests import prompt_size
from deepen_llm.requests.deadline import Deadline
from deepen_llm.requests.prompt_size import check_size
from deepen_llm.testing import ScriptedMember

CONTEXT = 20


@pytest.fixture
def member(vocabularies, monkeypatch):
    """A member that counts the characters which it was to put into tokens, some at a time."""
    monkeypatch.setattr(prompt_size, "PIECE", 64)
    monkeypatch.setattr(prompt_size, "MOST_ADDED", 4)
    scripted = ScriptedMember(vocabularies["bpe"], [], context_length=CONTEXT)
    encode, seen = scripted.vocabulary.encode, []
    monkeypatch.setattr(scripted.vocabulary, "encode", lambda text: seen.append(len(text)) or encode(text))
    scripted.seen = seen
    return GuardedMember(scripted)


def test_what_may_fit_is_not_looked_at(member):
    check_size(member, "a" * CONTEXT * prompt_size.PLENTY, Deadline(None))
    assert not member.member.seen


@pytest.mark.parametrize("text", ["zq ", " ", "🙂", "word "])
def test_of_what_cannot_fit_only_the_beginning_is_looked_at(member, text):
    with pytest.raises(ContextLengthError, match=f"tokens for member 'bpe', whose context holds {CONTEXT}"):
        check_size(member, text * 100_000, Deadline(None))
    assert sum(member.member.seen) < 2000


def test_the_number_told_is_not_more_than_there_are(member, vocabularies):
    text = "The quick brown fox. " * 30
    with pytest.raises(ContextLengthError) as raised:
        check_size(member, text, Deadline(None))
    told = int(str(raised.value).split("more than ")[1].split()[0])
    assert CONTEXT <= told < len(vocabularies["bpe"].segment(text).ids)


def test_time_is_looked_at_between_the_pieces(member, monkeypatch):
    monkeypatch.setattr(prompt_size, "MOST_ADDED", 60)
    with pytest.raises(MemberTimeoutError):
        check_size(member, "  " * 1000, Deadline(0.0))
    assert len(member.member.seen) == 1
