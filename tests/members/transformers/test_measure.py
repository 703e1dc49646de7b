"""Measuring a text in one pass: what feeding it token by token says, whatever kind the model is."""

from __future__ import annotations

import itertools

import pytest
import torch

from deepen_llm.members.transformers import TransformersMember
from deepen_llm.members.transformers import member as module
from deepen_llm.testing import ScriptedMember
from tests import toy_tokenizers
from tests.models import make_model

KINDS = ["llama", "neox", "qwen2", "gpt2", "bloom", "mistral-sliding", "mamba"]


def make_member(kind):
    tokenizer = toy_tokenizers.byte_level_bpe()
    return TransformersMember(make_model(kind, vocab_size=len(tokenizer) + 3), tokenizer, name=kind)


def feed_one_by_one(member, ids):
    row, logprobs = member.open(), []
    for token_id, following in itertools.pairwise(ids):
        logits = member.extend({row: [token_id]})[0]
        logprobs.append(logits.float().log_softmax(dim=-1)[following])
    member.release(row)
    return torch.stack(logprobs)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_text_measured_at_once_is_as_probable_as_fed_token_by_token(kind, monkeypatch):
    monkeypatch.setattr(module, "MEASURED_AT_ONCE", 5)  # several pieces, the last of them shorter
    member = make_member(kind)
    ids = member.vocabulary.encode("the cat sat on the mat, and then the dog ran away.")
    assert len(ids) > 12
    measured = member.measure(ids)
    assert measured.dtype == torch.float32 and measured.shape == (len(ids) - 1,)
    torch.testing.assert_close(measured, feed_one_by_one(member, ids), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["llama", "mamba"])
@torch.inference_mode()
def test_measuring_leaves_the_rows_as_they_are(kind):
    member = make_member(kind)
    ids = member.vocabulary.encode("the cat sat on the mat")
    expected = member.extend({member.open(): ids})
    row = member.open()
    member.extend({row: ids[:-1]})
    member.measure(ids[::-1])
    torch.testing.assert_close(member.extend({row: ids[-1:]}), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("ids", [[], [3]])
def test_nothing_is_said_of_a_first_token(ids, vocabularies):
    for member in (make_member("llama"), ScriptedMember(vocabularies["bpe"], ["the cat"])):
        assert member.measure(ids).shape == (0,)


def test_a_scripted_member_is_measured_by_what_it_would_say(vocabularies):
    member = ScriptedMember(vocabularies["bpe"], ["the cat sat."])
    ids = vocabularies["bpe"].encode("the cat sat.")
    torch.testing.assert_close(member.measure(ids), feed_one_by_one(member, ids))
    assert member.measured == [ids]
