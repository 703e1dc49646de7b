"""Bias and penalties: beside loops, and what they may be given for."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepen_llm.config import SamplingParams
from deepen_llm.decoding.penalties import Penalties, resolve_bias
from deepen_llm.errors import ConfigError

CPU = torch.device("cpu")


def build(vocabulary, prompt_ids=(), said=(), **params):
    penalties = Penalties.build(SamplingParams(**params), vocabulary, prompt_ids, vocabulary.eos_ids, CPU)
    for token_id in said:
        penalties.push(token_id)
    return penalties


def reference(logits, prompt_ids, said, params):
    """The processors of transformers and OpenAI's formula, token by token, over the logits of one model."""
    changed = []
    for token_id, logit in enumerate(logits.tolist()):
        logit += (params.logit_bias or {}).get(token_id, 0.0)
        if token_id in prompt_ids or token_id in said:
            penalty = params.repetition_penalty
            logit = logit * penalty if logit < 0 else logit / penalty
        count = said.count(token_id)
        changed.append(logit - params.frequency_penalty * count - params.presence_penalty * (count > 0))
    return torch.tensor(changed, dtype=torch.float64)


def plain_ids(vocabulary):
    """Tokens that no other token says, too."""
    return [i for i, token in enumerate(vocabulary.tokens) if token and i not in vocabulary.same_ids]


@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    repetition=st.floats(0.5, 2.0),
    presence=st.floats(-2.0, 2.0),
    frequency=st.floats(-2.0, 2.0),
    seed=st.integers(0, 1000),
)
def test_an_ensemble_of_one_is_penalised_as_a_loop_over_its_logits_says(
    vocabularies, data, repetition, presence, frequency, seed
):
    vocabulary = vocabularies["bpe"]
    ids = st.sampled_from(plain_ids(vocabulary))
    prompt_ids, said = data.draw(st.lists(ids, max_size=9)), data.draw(st.lists(ids, max_size=9))
    params = SamplingParams(
        repetition_penalty=repetition,
        presence_penalty=presence,
        frequency_penalty=frequency,
        logit_bias=data.draw(st.dictionaries(ids, st.floats(-100.0, 100.0), max_size=4)),
    )
    logits = 4 * torch.randn(len(vocabulary), generator=torch.Generator().manual_seed(seed))
    penalties = Penalties.build(params, vocabulary, prompt_ids, vocabulary.eos_ids, CPU)
    logprobs = logits.log_softmax(dim=-1)
    if penalties is not None:
        for token_id in said:
            penalties.push(token_id)
        logprobs = penalties.apply(logprobs, logits).log_softmax(dim=-1)
    expected = reference(logits, prompt_ids, said, params).log_softmax(dim=-1)
    torch.testing.assert_close(logprobs.double(), expected, atol=1e-4, rtol=1e-4)


def test_without_bias_or_penalty_there_is_nothing_to_do(vocabularies):
    assert build(vocabularies["bpe"], (5,)) is None
    assert build(vocabularies["bpe"], (5,), logit_bias={}) is None


def test_what_is_ruled_out_stays_so_whatever_is_added(vocabularies):
    vocabulary = vocabularies["bpe"]
    chosen, other = plain_ids(vocabulary)[:2]
    logits = torch.zeros(len(vocabulary))
    logprobs = logits.log_softmax(dim=-1).index_fill(0, torch.tensor([chosen]), -math.inf)
    penalties = build(vocabulary, (chosen, other), logit_bias={chosen: 100.0}, repetition_penalty=0.5)
    changed = penalties.apply(logprobs, logits)
    assert changed[chosen] == -math.inf and not changed.isnan().any()


def test_tokens_that_say_the_same_share_bias_and_penalties(vocabularies):
    vocabulary = vocabularies["sentencepiece"]
    ids = next(ids for token_id, ids in vocabulary.same_ids.items() if vocabulary.tokens[token_id])
    zeros = torch.zeros(len(vocabulary))
    for penalties in (
        build(vocabulary, logit_bias={ids[0]: -5.0}),
        build(vocabulary, said=ids[:1], frequency_penalty=1.0),
        build(vocabulary, ids[:1], repetition_penalty=2.0),
    ):
        changed = penalties.apply(zeros.log_softmax(dim=-1), zeros - 1)
        assert changed[list(ids)].unique().numel() == 1
        assert changed[ids[0]] < changed.max()


def test_a_bias_by_text_is_that_of_the_token_with_exactly_this_text(vocabularies):
    vocabulary = vocabularies["bpe"]
    token_id = vocabulary.encode(" fox", at_start=False)[0]
    text = vocabulary.display(token_id)
    assert resolve_bias({text: 2.0}, vocabulary, ()) == resolve_bias({token_id: 2.0}, vocabulary, ())


def test_a_bias_for_what_is_no_token_is_refused_by_name(vocabularies):
    vocabulary = vocabularies["bpe"]
    token_id = vocabulary.encode(" fox", at_start=False)[0]
    special = next(iter(vocabulary.special_ids - set(vocabulary.eos_ids)), None)
    for bias, message in (
        (
            {"quick brown foxes": 1.0},
            r"one token of the main model 'bpe'; got 'quick brown foxes', which falls into \['",
        ),
        ({10**9: -1.0}, "logit_bias has token ids of the main model 'bpe', .* got 1000000000"),
        ({token_id: 1.0, vocabulary.display(token_id): 2.0}, "got two for .*, by id and by text"),
    ):
        with pytest.raises(ConfigError, match=message):
            resolve_bias(bias, vocabulary, vocabulary.eos_ids)
    if special is not None:
        with pytest.raises(ConfigError, match="a special token of 'bpe' that never comes"):
            resolve_bias({special: 1.0}, vocabulary, vocabulary.eos_ids)
        assert resolve_bias({special: -1.0}, vocabulary, vocabulary.eos_ids) == {special: -1.0}
    assert resolve_bias({vocabulary.eos_ids[0]: 1.0}, vocabulary, vocabulary.eos_ids)
