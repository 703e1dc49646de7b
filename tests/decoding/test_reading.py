"""What the ensemble says of each token of a text that is given."""

from __future__ import annotations

import asyncio

import pytest

from deepen_llm import Ensemble
from deepen_llm.errors import ContextLengthError, MemberTimeoutError, PromptError
from deepen_llm.requests.token_prompt import TokenPrompt
from deepen_llm.testing import ScriptedMember
from tests.test_ensemble import STORY, TEXTS


def read(ensemble, prompts, *arguments, **options):
    return asyncio.run(ensemble.aprompt_logprobs(prompts, *arguments, **options))


@pytest.fixture
def alone(vocabularies):
    with Ensemble([ScriptedMember(vocabularies["bpe"], TEXTS, context_length=512, seed=0)]) as ensemble:
        yield ensemble


def test_every_token_but_the_first_is_told_as_the_model_alone_gives_it(alone):
    """Token by token, each as the first of an answer to those before it."""
    ids = alone.encode(STORY[:40])
    told = read(alone, STORY[:40], 3)[0]
    assert [one.token_id for one in told] == ids[1:]
    member = alone.members[0]
    row = member.open()
    for token_id, one in zip(ids, told, strict=False):
        logprobs = member.extend({row: [token_id]})[0].float()
        logprobs = logprobs.masked_fill(~member.vocabulary.allowed, -float("inf")).log_softmax(dim=-1)
        assert one.logprob == pytest.approx(float(logprobs[one.token_id]), abs=1e-5)
        assert [top.token_id for top in one.top] == logprobs.topk(3).indices.tolist()
    member.release(row)


def test_tokens_and_their_text_are_read_alike(make_ensemble):
    ensemble = make_ensemble(TEXTS, kinds=("sentencepiece", "bpe"))
    ids = ensemble.members[0].vocabulary.encode_prompt(STORY[:40]).ids
    assert read(ensemble, TokenPrompt(ids), 2) == read(ensemble, STORY[:40], 2)


def test_the_sum_is_the_score_of_what_follows_the_first_token(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    first = ensemble.members[0].vocabulary.tokens[ensemble.encode(STORY[:40])[0]].decode()
    score = ensemble.score(first, STORY[len(first) : 40])
    told = read(ensemble, STORY[:40])[0]
    assert len(told) == score.num_tokens
    assert sum(one.logprob for one in told) == pytest.approx(score.logprob, abs=1e-4)


def test_several_prompts_are_read_in_one_batch(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    several = read(ensemble, [STORY[:20], STORY[:30]])
    for told, text in zip(several, (STORY[:20], STORY[:30]), strict=True):
        due = read(ensemble, text)[0]
        assert [one.logprob for one in told] == pytest.approx([one.logprob for one in due], abs=1e-5)


def test_of_a_single_token_nothing_is_told(alone):
    assert read(alone, TokenPrompt(tuple(alone.encode("The")[:1]))) == [()]


def test_weights_that_learn_do_so_from_what_is_read(make_ensemble):
    """The second member knows the text, and the main model does not."""
    ensemble = make_ensemble(TEXTS, texts_of={"bpe": ["nothing of the kind at all"]}, weights="adaptive")
    fixed = make_ensemble(TEXTS, texts_of={"bpe": ["nothing of the kind at all"]}, weights=(0.5, 0.5))
    learnt, stays = (sum(one.logprob for one in read(one, STORY[:120])[0]) for one in (ensemble, fixed))
    assert learnt > stays


def test_what_is_too_long_or_takes_too_long_is_given_up(make_ensemble):
    ensemble = make_ensemble(TEXTS, context_length=64)
    with pytest.raises(ContextLengthError):
        read(ensemble, "a b c d " * 60)
    with pytest.raises(MemberTimeoutError):
        read(ensemble, STORY[:40], timeout_s=1e-6)
    with pytest.raises(PromptError):
        read(ensemble, 3)
    assert ensemble.num_running == 0
