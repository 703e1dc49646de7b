from __future__ import annotations

import re
from dataclasses import replace

import pytest

from deepen_llm.errors import ContextLengthError, PromptError
from deepen_llm.members.base import Member
from deepen_llm.members.source import SourceReader
from deepen_llm.testing import ScriptedMember
from tests.vocabularies import load_toy

READER = SourceReader(load_toy("t5"), (), (1,), (0,), 12)


def test_the_source_is_the_whole_prompt_or_what_the_last_match_has_in_its_group():
    assert READER.find("one <two> <three>") == "one <two> <three>"
    assert replace(READER, pattern=re.compile("<(.*?)>")).find("one <two> <three>") == "three"


@pytest.mark.parametrize(("pattern", "prompt"), [("<(.*?)>", "no sign"), ("a(b)?", "only a")])
def test_a_prompt_in_which_the_pattern_finds_no_source_is_refused(pattern, prompt):
    with pytest.raises(PromptError, match=r"source_pattern of member 't5' must match .*SamplingParams\(source="):
        replace(READER, pattern=re.compile(pattern)).find(prompt)


def test_the_encoder_reads_the_text_between_what_is_put_around_it_and_nothing_in_it_is_special():
    ids = READER.encode(" the dog </s> ")
    assert ids == (*READER.vocabulary.encode("the dog </s>"), 1)
    assert ids.count(1) == 1
    framed = replace(READER, prefix_ids=(2,), before="say: ", after=".")
    assert framed.encode("dog") == (2, *READER.vocabulary.encode("say: dog."), 1)


@pytest.mark.parametrize("source", ["", "  \n"])
def test_an_empty_source_is_refused(source):
    with pytest.raises(PromptError, match="the source must not be empty: member 't5'"):
        READER.encode(source)


def test_half_a_character_is_no_source():
    with pytest.raises(PromptError, match="the source"):
        READER.encode("a\ud800")


def test_a_source_that_is_longer_than_the_encoder_reads_is_refused_with_both_numbers():
    most = "?" * 10
    assert len(READER.encode(most)) == 12
    with pytest.raises(ContextLengthError, match="the source has 13 tokens for member 't5', whose encoder reads 12"):
        READER.encode(most + "?")


@pytest.mark.parametrize("at_start", [True, False])
def test_the_prompt_of_a_decoder_is_fixed_and_the_answer_begins_after_it(at_start):
    prompt = READER.begin("dog", ["all", "of it"], at_start=at_start)
    assert (prompt.ids, prompt.num_fixed, prompt.text, prompt.at_start) == ((0,), 1, "", at_start)
    assert prompt.source_ids == READER.encode("dog") and prompt.contents == ("all", "of it")


def test_a_member_without_an_encoder_has_no_source():
    member: Member = ScriptedMember(load_toy("gpt2"), ["a"])
    assert member.source_reader is None
    with pytest.raises(TypeError, match="has no encoder to read 2 tokens"):
        member.open_over((1, 2))
