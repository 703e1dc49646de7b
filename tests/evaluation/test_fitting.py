from __future__ import annotations

import pytest

from deepen_llm.errors import ContextLengthError
from deepen_llm.evaluation.context_window import fit_prompt, fits
from deepen_llm.testing import ScriptedMember

PROMPT = "First example here.\n\nSecond example here.\n\nLast question?"


@pytest.fixture
def make_members(vocabularies):
    return lambda length: [ScriptedMember(vocabularies[kind], [], context_length=length) for kind in vocabularies]


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
