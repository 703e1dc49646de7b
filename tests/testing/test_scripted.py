"""The scripted member: what it says, and what it notes down of every call."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.errors import ClosedError
from deepen_llm.members.base import Branch
from deepen_llm.testing import ScriptedMember

STORY = "the cat sat on the mat."


@pytest.fixture(params=["bpe", "sentencepiece", "unigram"])
def member(vocabularies, request):
    return ScriptedMember(vocabularies[request.param], [STORY, "the dog ran."])


def recite(member, begin):
    """Feed it a text's beginning and then always its best token, until it ends."""
    row, ids = member.open(), member.vocabulary.encode(begin)
    while ids[-1] not in member.vocabulary.eos_ids:
        ids.append(int(member.extend({row: ids[len(member.rows[row]) :]}).argmax()))
    return member.text(ids[:-1]).decode()


@pytest.mark.parametrize("begin", ["the", "the cat", "the d"])
def test_it_goes_on_with_the_first_text_that_fits_and_ends(member, begin):
    assert recite(member, begin) == ("the dog ran." if begin == "the d" else STORY)


def test_what_it_does_not_know_it_ends_at_once(member):
    assert recite(member, "nothing of the kind") == "nothing of the kind"


def test_the_best_token_stands_out_by_the_confidence(vocabularies):
    member = ScriptedMember(vocabularies["bpe"], [STORY], confidence=3.0)
    logits = member.extend({member.open(): member.vocabulary.encode("the cat")})[0]
    assert sorted(logits.tolist())[-2:] == [0.0, 3.0]


def test_every_call_is_noted(member):
    ids = member.vocabulary.encode("the cat")
    one, two = member.open(), member.open()
    started = member.start_extend({one: ids, two: ids[:1]}, {one: len(ids) - 1})
    member.peek([Branch(one, 1, [5, 6]), Branch(two, 0, [7])])
    member.rollback(one, 1)
    member.release(two)
    assert member.passes == [{one: ids, two: ids[:1]}]
    assert member.peeks == [[[*ids[:-1], 5, 6], [*ids[:1], 7]]]
    assert member.measured == [ids[1:]]
    assert set(started.measured) == {one} and started.measured[one].shape == (len(ids) - 1,)
    assert member.rows == {one: ids[:-1]} and member.num_rolled_back == 1


def test_it_can_be_told_to_fail_and_to_say_something_else(member):
    row = member.open()
    member.change = lambda text, logits: torch.full_like(logits, -torch.inf)
    assert member.extend({row: [5]}).max() == -torch.inf
    failure = RuntimeError("out of memory")

    def fail(tokens):
        raise failure

    member.before_pass = fail
    with pytest.raises(RuntimeError, match="out of memory"):
        member.extend({row: [5]})
    assert member.rows == {row: [5]} and len(member.passes) == 1


def test_tokens_with_the_same_bytes_have_the_same_embedding_in_all_members(vocabularies):
    first, second = (ScriptedMember(vocabularies[kind], [], seed=at) for at, kind in enumerate(("bpe", "unigram")))
    ids = [member.vocabulary.ids_by_token[b" the"] for member in (first, second)]
    assert torch.equal(first.embeddings[ids[0]], second.embeddings[ids[1]])
    assert not torch.equal(first.embeddings[0], second.embeddings[0])  # special tokens


def test_a_closed_one_refuses(member):
    member.close()
    assert member.is_closed
    with pytest.raises(ClosedError, match="is closed: make another"):
        member.open()
