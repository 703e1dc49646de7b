"""lm-evaluation-harness as a client: what it gets over HTTP is what it gets in this process."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("lm_eval.models.openai_completions")

from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI

from deepen_llm import Ensemble
from deepen_llm.evaluation.harness import HarnessModel
from deepen_llm.starter import find_models
from tests.server.serving import serving

PAIRS = [
    ("Question: What is the capital of France? Answer:", " Paris"),
    ("Question: What is the capital of France? Answer:", " Lima"),
    ("Question: What is 2 + 3? Answer:", " 5"),
    ("Once upon a time there was a little", " girl who liked to play."),
]


@pytest.fixture(scope="module")
def fixed():
    """Weights that stay: those that learn see where a prompt ends, which lm-eval does not say."""
    with Ensemble.starter(weights=[0.4, 0.3, 0.3]) as ensemble:
        yield ensemble


@pytest.fixture(scope="module")
def server(fixed):
    with serving(fixed) as server:
        yield server


def ask(server, name, kind, asked, tokenizer="llama", *, has_bos=True):
    model = LocalCompletionsAPI(
        model=name,
        base_url=f"{server.address}/v1/completions",
        tokenizer=find_models(tokenizer)[0],
        tokenizer_backend="huggingface",
        add_bos_token=has_bos,
        max_length=1024,
    )
    return getattr(model, kind)([Instance(kind, {}, one, number) for number, one in enumerate(asked)])


@pytest.mark.parametrize("name", ["llama", "neox", "qwen2"])
def test_log_likelihoods_of_a_member_alone_are_those_in_this_process(server, name):
    own = HarnessModel.from_ensemble(server.service.models.find(name))
    due = own.loglikelihood([Instance("loglikelihood", {}, pair, 0) for pair in PAIRS])
    got = ask(server, name, "loglikelihood", PAIRS, tokenizer=name)
    assert [logprob for logprob, _ in got] == pytest.approx([logprob for logprob, _ in due], abs=1e-4)
    assert [is_greedy for _, is_greedy in got] == [is_greedy for _, is_greedy in due]


async def test_log_likelihoods_of_whole_texts_under_the_ensemble_are_those_in_this_process(server, fixed):
    texts = ["".join(pair) for pair in PAIRS]
    due = [sum(one.logprob for one in read) for read in await fixed.aprompt_logprobs(texts)]
    asked = [(text,) for text in texts]
    got = await asyncio.to_thread(ask, server, "deepen", "loglikelihood_rolling", asked, has_bos=False)
    assert got == pytest.approx(due, rel=1e-5)


def test_log_likelihoods_of_the_ensemble_are_near_those_in_this_process(server, fixed):
    """Not the same: who wrote the last word of the context counts for how it ends, and here it is not known."""
    due = [fixed.score(*pair) for pair in PAIRS]
    got = ask(server, "deepen", "loglikelihood", PAIRS)
    assert [logprob for logprob, _ in got] == pytest.approx([score.logprob for score in due], rel=0.06)
    assert [is_greedy for _, is_greedy in got] == [score.is_greedy for score in due]


def test_texts_are_generated_as_in_this_process(server, fixed):
    asked = [(pair[0], {"until": ["\n"], "max_gen_toks": 6}) for pair in PAIRS]
    due = HarnessModel.from_ensemble(fixed).generate_until([Instance("generate_until", {}, one, 0) for one in asked])
    assert ask(server, "deepen", "generate_until", asked) == due
