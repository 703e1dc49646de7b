"""Answers that are not what was asked: each is an own error, and none is taken for a distribution."""

from __future__ import annotations

import math
import re
import time

import pytest
import torch

from deepen_llm import Ensemble, SamplingParams
from deepen_llm.errors import MemberError, MemberTimeoutError, NumericalError
from deepen_llm.members.transformers import TransformersMember
from tests.members.server.doubles import DOUBLES, tiny_model, tokenizer

STEPS = {"llama-server": "/completion", "sglang": "/generate", "vllm": "/v1/completions", "deepen": "/v1/completions"}
kinds = pytest.mark.parametrize("kind", list(DOUBLES))


def get_top(kind, answer):
    """The list of what is told of the first text, of whatever form."""
    if kind == "llama-server":
        return answer["completion_probabilities"][0]["top_logprobs"]
    if kind == "sglang":
        return answer[0]["meta_info"]["output_top_logprobs"][0]
    return min(answer["choices"], key=lambda choice: choice["index"])["logprobs"]["top_logprobs"][0]


def change_best(kind, double, logprob=None, token_id=None):
    """Have the next steps tell something else of the best token."""

    def change(path, answer):
        if path != STEPS[kind]:
            return answer
        top = get_top(kind, answer)
        if kind == "llama-server":
            top[0] |= {"logprob": logprob} if token_id is None else {"id": token_id}
        elif kind == "sglang":
            top[0] = [logprob, top[0][1], None] if token_id is None else [top[0][0], token_id, None]
        else:
            best = next(iter(top))
            value = top.pop(best)
            told = {best: logprob} if token_id is None else {f"token_id:{token_id}": value}
            rest = dict(top)
            top.clear()
            top.update(told | rest)
        return answer

    double.change = change


@kinds
@pytest.mark.parametrize("logprob", [None, math.nan])
def test_what_is_no_number_fails_the_sequence_and_no_other(kind, logprob, serve, load):
    double = serve(kind)
    member = load(double)
    change_best(kind, double, logprob)
    rows = [member.open()]
    assert member.extend({rows[0]: [5]}).isnan().any(), "the guard finds it"


def test_a_nan_is_an_error_of_the_request(serve, load):
    double = serve("vllm")
    member = load(double)
    main = TransformersMember(tiny_model(), tokenizer(), name="main")
    with Ensemble([main, member]) as ensemble:
        change_best("vllm", double, math.nan)
        with pytest.raises(NumericalError, match="'remote'"):
            ensemble.generate("Once", SamplingParams(max_new_tokens=3))
        double.change = lambda path, answer: answer
        assert ensemble.generate("Once", SamplingParams(max_new_tokens=3)).text


@kinds
@pytest.mark.parametrize("token_id", [-1, 10**6, 10**30])
def test_ids_beyond_the_vocabulary_are_refused(kind, token_id, serve, load):
    double = serve(kind)
    member = load(double)
    change_best(kind, double, token_id=token_id)
    with pytest.raises(MemberError, match=rf"ids below {len(member.vocabulary)}, each once.*tokenizer="):
        member.extend({member.open(): [5]})


@pytest.mark.parametrize("kind", ["llama-server", "sglang"])
def test_the_same_token_twice_is_refused(kind, serve, load):
    double = serve(kind)
    member = load(double)
    seen = []
    double.change = lambda path, answer: seen.append(answer) or answer
    member.extend({member.open(): [5]})
    second = get_top(kind, seen[0])[1]
    change_best(kind, double, token_id=second["id"] if kind == "llama-server" else second[1])
    with pytest.raises(MemberError, match="99 of 100 different"):
        member.extend({member.open(): [5]})


@kinds
def test_what_is_no_log_probability_is_refused(kind, serve, load):
    double = serve(kind)
    member = load(double)
    change_best(kind, double, 17.5)
    with pytest.raises(MemberError, match=r"natural-log probabilities, which are never above 0; it told one of 17.5"):
        member.extend({member.open(): [5]})


@kinds
def test_fewer_tokens_than_asked_are_found_out_at_the_start(kind, serve, load):
    double = serve(kind)
    double.max_top = 20
    hint = re.escape(DOUBLES_HINTS[kind])
    with pytest.raises(MemberError, match=hint):
        load(double)
    assert load(double, top=20).num_told == 20, "unless the user asks for no more"


DOUBLES_HINTS = {
    "llama-server": "must tell the 100 best tokens; it told 20: update llama.cpp",
    "sglang": "must tell the 100 best tokens; it told 20: update SGLang",
    "vllm": "greater than max allowed: 20): look at its log; if 100 tokens are more than it tells, start vLLM with "
    "--max-logprobs 256",
    "deepen": "greater than max allowed: 20): look at its log; if 100 tokens are more than it tells, ask for what",
}


@kinds
@pytest.mark.parametrize(
    "answer", [b"", b"{", b"null", b"[]", b'{"error": "no"}', b'{"choices": 1}', b"\xff", b"[" * 9999]
)
def test_an_answer_of_another_form_is_refused(kind, answer, serve, load):
    double = serve(kind)
    member = load(double)
    double.change = lambda path, _: answer
    with pytest.raises(MemberError, match=r"must answer as .* does|must tell the next token of 1 texts"):
        member.extend({member.open(): [5]})


def test_tokens_as_text_are_refused(serve, load):
    double = serve("vllm")
    member = load(double)

    def change(path, answer):
        top = get_top("vllm", answer)
        told = {f" word{at}": logprob for at, logprob in enumerate(top.values())}
        top.clear()
        top.update(told)
        return answer

    double.change = change
    with pytest.raises(MemberError, match=r"tokens by their ids \(token_id:42\); it told \[' word0'"):
        member.extend({member.open(): [5]})


@pytest.mark.parametrize("kind", ["sglang", "vllm"])
def test_an_answer_for_fewer_texts_is_refused(kind, serve, load):
    double = serve(kind)
    member = load(double)
    double.change = lambda path, answer: answer[1:] if kind == "sglang" else {"choices": answer["choices"][1:]}
    with pytest.raises(MemberError, match="must tell the next token of 2 texts; it told that of 1"):
        member.extend({member.open(): [5], member.open(): [6]})


def test_a_step_that_takes_too_long_names_the_member(serve, load):
    double = serve("llama-server")
    member = load(double, timeout_s=1.0)
    double.before = lambda handler, path, body: bool(time.sleep(2))
    begun = time.monotonic()
    with pytest.raises(MemberTimeoutError, match=r"'remote' at .* did not answer within 1 s"):
        member.extend({member.open(): [5]})
    assert time.monotonic() - begun < 1.8


def test_a_server_that_dies_fails_its_requests_and_serves_again_when_it_is_back(serve, load):
    double = serve("llama-server")
    member = load(double)
    main = TransformersMember(tiny_model(), tokenizer(), name="main")
    params = SamplingParams(max_new_tokens=5)
    with Ensemble([main, member]) as ensemble:
        before = ensemble.generate("Once upon", params).text
        double.stop()
        with pytest.raises(MemberError, match=rf"'remote' failed .*{double.address} cannot be reached: nobody listens"):
            ensemble.generate("Once upon", params)
        double.start()
        assert ensemble.generate("Once upon", params).text == before


def test_a_server_that_dies_between_two_steps_and_is_back_at_once_is_not_noticed(serve, load):
    double = serve("llama-server")
    member = load(double)
    row = member.open()
    member.extend({row: [5, 6]})
    double.stop()
    double.start()
    again = load(serve("llama-server"))
    assert torch.equal(member.extend({row: [7]}), again.extend({again.open(): [5, 6, 7]}))
