"""What is measured on the way equals what feeding token by token says, whatever kind the model is."""

from __future__ import annotations

import random

import pytest
import torch

from deepen_llm.members.transformers import TransformersMember, rows
from deepen_llm.members.transformers.rows import measure
from deepen_llm.testing import ScriptedMember
from tests import toy_tokenizers
from tests.models import make_model

KINDS = ["llama", "neox", "qwen2", "gpt2", "bloom", "mistral-sliding", "mamba"]
TEXT = "the cat sat on the mat, and then the dog ran away."


def make_member(kind):
    tokenizer = toy_tokenizers.byte_level_bpe()
    return TransformersMember(make_model(kind, vocab_size=len(tokenizer) + 3), tokenizer, name=kind)


def feed_one_by_one(member, ids, num):
    """What the last tokens are given in a row of their own, (num,)."""
    row, logprobs = member.open(), []
    for token_id, following in zip(ids, [*ids[1:], 0], strict=True):
        logits = member.extend({row: [token_id]})[0]
        logprobs.append(logits.float().log_softmax(dim=-1)[following])
    member.release(row)
    return torch.stack(logprobs[-num - 1 : -1])


def check(member, measured, contexts, asked):
    """What was measured, of just the rows that were asked, under the tokens of all rows."""
    assert set(measured) == {row for row, num in asked.items() if num}
    for row, logprobs in measured.items():
        assert logprobs.dtype == torch.float32 and logprobs.shape == (asked[row],)
        assert logprobs.device.type == "cpu"
        expected = feed_one_by_one(member, contexts[row], asked[row])
        torch.testing.assert_close(logprobs, expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_text_measured_at_once_is_as_probable_as_fed_token_by_token(kind, monkeypatch):
    monkeypatch.setattr(rows, "MEASURED_AT_ONCE", 5)  # several pieces, the last of them shorter
    member = make_member(kind)
    ids = member.vocabulary.encode(TEXT)
    assert len(ids) > 12
    for num in (1, 2, 5, 11, len(ids) - 1):
        row = member.open()
        started = member.start_extend({row: ids}, {row: num})
        expected = member.extend({member.open(): ids})
        torch.testing.assert_close(started.result(), expected, atol=2e-4, rtol=0)
        check(member, started.measured, {row: ids}, {row: num})


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_some_rows_of_a_batch_are_measured_each_as_far_as_was_asked(kind):
    member = make_member(kind)
    ids = member.vocabulary.encode(TEXT)
    texts = [ids, ids[::-1][:5], ids[3:4], ids[2:14], ids[::-1]]
    handles = [member.open() for _ in texts]
    contexts = dict(zip(handles, texts, strict=True))
    asked = {handles[0]: 4, handles[4]: len(ids) - 1, handles[3]: 1}
    started = member.start_extend({row: contexts[row] for row in handles[::-1]}, asked)
    expected = torch.cat([member.extend({member.open(): text}) for text in texts[::-1]])
    torch.testing.assert_close(started.result(), expected, atol=2e-4, rtol=0)
    check(member, started.measured, contexts, asked)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_rows_that_go_on_roll_back_and_begin_beside_each_other_are_measured(kind):
    rng = random.Random(3)
    member = make_member(kind)
    contexts: dict[int, list[int]] = {}
    num_checked = 0
    for step in range(14):
        for row, ids in contexts.items():
            if len(ids) > 4 and rng.random() < 0.4:
                taken = rng.randint(1, 3)
                member.rollback(row, taken)
                del ids[-taken:]
        fed = {row: rng.choices(range(3, 300), k=rng.randint(1, 5)) for row in contexts if rng.random() < 0.7}
        if step % 4 == 0:
            row = member.open()
            contexts[row], fed[row] = [], rng.choices(range(3, 300), k=rng.randint(2, 14))
        asked = {row: rng.randint(1, len(ids) - 1) for row, ids in fed.items() if len(ids) > 1 and rng.random() < 0.7}
        if not fed:
            continue
        started = member.start_extend(fed, asked)
        started.result()
        for row, ids in fed.items():
            contexts[row] += ids
        check(member, started.measured, contexts, asked)
        num_checked += len(asked)
    assert num_checked >= 8


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_a_row_that_was_measured_goes_on_as_one_that_was_not(kind):
    member = make_member(kind)
    ids = member.vocabulary.encode(TEXT)
    expected = member.extend({member.open(): ids})
    row = member.open()
    member.start_extend({row: ids[:-2]}, {row: 6}).result()
    member.start_extend({row: ids[-2:-1]}).result()
    torch.testing.assert_close(member.extend({row: ids[-1:]}), expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize("kind", ["llama", "mamba"])
@torch.inference_mode()
def test_what_is_measured_at_a_temperature_is_that_of_logits_divided_by_it(kind):
    member = make_member(kind)
    ids = member.vocabulary.encode(TEXT)
    row, other = member.open(), member.open()
    started = member.start_extend({row: ids, other: ids[:3]}, {row: 6}, temperature=2.5)
    after = [member.extend({member.open(): ids[:end]})[0] for end in range(len(ids) - 6, len(ids))]
    expected = [(logits.float() / 2.5).log_softmax(dim=-1)[ids[len(ids) - 6 + at]] for at, logits in enumerate(after)]
    torch.testing.assert_close(started.result()[0], member.extend({member.open(): ids})[0], atol=2e-4, rtol=0)
    torch.testing.assert_close(started.measured[row], torch.stack(expected), atol=2e-4, rtol=0)


@pytest.mark.parametrize("kind", ["llama", "mamba"])
@torch.inference_mode()
def test_nothing_is_measured_unless_it_is_asked(kind):
    member = make_member(kind)
    for asked in (None, {}, {0: 0}):
        started = member.start_extend({member.open(): [5, 6, 7]}, asked)
        started.result()
        assert started.measured == {}


@torch.inference_mode()
def test_logits_are_asked_only_where_something_is_measured_or_comes_next():
    member = make_member("llama")
    forward, kept = member._model.forward, []
    member._rows._model = lambda **given: kept.append(given["logits_to_keep"].tolist()) or forward(**given)
    one, two = member.open(), member.open()
    member.start_extend({one: list(range(5, 15)), two: [5, 6, 7, 8]}, {one: 3}).result()
    assert kept == [[3, 6, 7, 8, 9]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pieces_of_any_size_measure_the_same_in_float32(dtype, monkeypatch):
    logits = torch.randn(7, 11, generator=torch.Generator().manual_seed(0)).to(dtype)
    ids = [3, 0, 10, 5, 5, 1, 2]
    expected = logits.float().log_softmax(dim=-1)[torch.arange(7), torch.tensor(ids)]
    for size in (1, 3, 7, 100):
        monkeypatch.setattr(rows, "MEASURED_AT_ONCE", size)
        measured = measure(logits, ids)
        assert measured.dtype == torch.float32
        torch.testing.assert_close(measured, expected)


def test_a_scripted_member_is_measured_by_what_it_would_say(vocabularies):
    member = ScriptedMember(vocabularies["bpe"], ["the cat sat."])
    ids = vocabularies["bpe"].encode("the cat sat.")
    row = member.open()
    started = member.start_extend({row: ids}, {row: len(ids) - 1})
    torch.testing.assert_close(started.measured[row], feed_one_by_one(member, ids, len(ids) - 1))
    assert member.measured == [ids[1:]]
