"""Prompts that come as tokens of the main model."""

from __future__ import annotations

import asyncio

import pytest

from deepen_llm import Ensemble, SamplingParams
from deepen_llm.errors import ContextLengthError, PromptError
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.requests.deadline import Deadline
from deepen_llm.requests.token_prompt import TokenPrompt, encode_ids, num_unread, spell
from deepen_llm.testing import ScriptedMember
from tests.test_ensemble import STORY, TEXTS

KINDS = ("bpe", "sentencepiece", "unigram")


@pytest.fixture(params=KINDS)
def ensemble(request, make_ensemble):
    """Each kind of vocabulary as that of the main model."""
    others = [kind for kind in KINDS if kind != request.param]
    return make_ensemble(TEXTS, kinds=(request.param, *others))


@pytest.mark.parametrize("text", [STORY[:9], STORY[:30], "The "])
def test_the_tokens_of_a_text_are_answered_as_the_text(ensemble, text):
    params = SamplingParams(max_new_tokens=12, logprobs=3)
    ids = ensemble.members[0].vocabulary.encode_prompt(text).ids
    assert ensemble.generate(TokenPrompt(ids), params) == ensemble.generate(text, params)
    both = ensemble.generate([TokenPrompt(ids), text], params)
    assert both[0].text == both[1].text
    assert asyncio.run(ensemble.agenerate(TokenPrompt(ids), params)) == ensemble.generate(text, params)


def test_a_stream_takes_tokens_too(ensemble):
    ids = ensemble.members[0].vocabulary.encode_prompt(STORY[:9]).ids
    params = SamplingParams(max_new_tokens=12)
    text = "".join(chunk.text for chunk in ensemble.stream(TokenPrompt(ids), params))
    assert text == ensemble.generate(STORY[:9], params).text


def test_other_members_read_the_text_that_tokens_spell(ensemble):
    members = [GuardedMember(member) for member in ensemble.members]
    ids = members[0].vocabulary.encode_prompt(STORY[:20]).ids
    encoded = encode_ids(members, 0, TokenPrompt(ids), Deadline(None))
    assert encoded[0].ids == ids
    for member, prompt in zip(members[1:], encoded[1:], strict=True):
        assert prompt == member.vocabulary.encode_prompt(STORY[:20])


def test_a_member_of_the_same_vocabulary_takes_the_tokens_themselves(vocabularies):
    members = [GuardedMember(ScriptedMember(vocabularies["bpe"], TEXTS, context_length=64, seed=at)) for at in (0, 1)]
    ids = tuple(vocabularies["bpe"].encode("Th") + vocabularies["bpe"].encode("e cat"))
    assert [prompt.ids for prompt in encode_ids(members, 0, TokenPrompt(ids), Deadline(None))] == [ids, ids]


def test_special_tokens_at_the_beginning_are_read_by_the_main_model_alone(ensemble):
    members = [GuardedMember(member) for member in ensemble.members]
    special = min(members[0].vocabulary.eos_ids)
    ids = (special, *members[0].vocabulary.encode(STORY[:9]))
    encoded = encode_ids(members, 0, TokenPrompt(ids), Deadline(None))
    assert encoded[0].ids == ids
    assert encoded[1] == members[1].vocabulary.encode_prompt(STORY[:9])


@pytest.mark.parametrize("place", [1, 3])
def test_a_special_token_later_on_is_refused_where_others_must_read_it(ensemble, place):
    vocabulary = ensemble.members[0].vocabulary
    ids = list(vocabulary.encode(STORY[:12]))
    ids.insert(place, min(vocabulary.eos_ids))
    with pytest.raises(PromptError, match=r"special token .* own: send the text"):
        ensemble.generate(TokenPrompt(tuple(ids)))
    with Ensemble([ScriptedMember(vocabulary, TEXTS, context_length=64)]) as alone:
        assert alone.generate(TokenPrompt(tuple(ids)), SamplingParams(max_new_tokens=1)).usage.prompt_tokens == len(ids)


def test_part_of_a_character_is_refused_where_others_must_read_it(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    byte = ensemble.members[0].vocabulary.byte_ids[0xE2]
    with pytest.raises(PromptError, match="part of a character"):
        ensemble.generate(TokenPrompt((byte,)))


@pytest.mark.parametrize(
    ("ids", "message"), [((), "at least one"), ((-1,), "got -1"), ((0, 10**6), "got 1000000 at place 1")]
)
def test_what_are_no_tokens_of_the_main_model_is_refused(ensemble, ids, message):
    with pytest.raises(PromptError, match=message):
        ensemble.generate(TokenPrompt(ids))


def test_more_tokens_than_a_context_holds_are_refused(make_ensemble):
    ensemble = make_ensemble(TEXTS, context_length=32)
    with pytest.raises(ContextLengthError, match="context holds 32"):
        ensemble.generate(TokenPrompt(tuple(ensemble.encode("a b c d " * 20))))


def test_text_is_spelled_without_the_dummy_space(vocabularies):
    for vocabulary in vocabularies.values():
        assert spell(vocabulary.encode_prompt("The cat").ids, vocabulary) == "The cat"


def test_tokens_are_read_at_once_up_to_the_first_whole_character(vocabularies):
    vocabulary = vocabularies["bpe"]
    ids = vocabulary.encode("The cat")
    assert num_unread(ids, vocabulary) == 1
    snow = [vocabulary.byte_ids[byte] for byte in "☃".encode()]
    assert num_unread([*snow, *ids], vocabulary) == 3
    eos = min(vocabulary.eos_ids)
    assert num_unread([eos, *ids], vocabulary) == 1
    assert num_unread([eos, eos, *ids], vocabulary) == 2
    assert num_unread(ids[:1], vocabulary) == 1
