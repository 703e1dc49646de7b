from __future__ import annotations

import pytest

from deepen_llm.config import SamplingParams
from deepen_llm.errors import CacheError, MemberError, PromptError
from deepen_llm.evaluation.request_cache import RequestCache
from deepen_llm.evaluation.requests import GenerateRequest, ScoreRequest
from deepen_llm.evaluation.runner import Runner

TEXTS = ["Who? A fox ran home.", "What? The hens slept."]
PROMPTS = [GenerateRequest(prompt, SamplingParams(max_new_tokens=20)) for prompt in ("Who?", "What?")]


def num_passes(ensemble):
    return sum(len(member.passes) for member in ensemble.members)


def test_answers_come_in_the_order_of_the_requests(make_ensemble):
    requests = [*PROMPTS, ScoreRequest("Who?", " A fox")]
    answers = Runner(make_ensemble(TEXTS, kinds=("bpe",)), RequestCache()).answer(requests)
    assert [answer.text for answer in answers] == [" A fox ran home.", " The hens slept.", ""]
    assert answers[2].is_greedy and answers[2].logprob < 0
    assert all(answer.num_tokens > 0 and answer.seconds > 0 for answer in answers)


def test_requests_run_side_by_side(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    Runner(ensemble, RequestCache()).answer(PROMPTS)
    assert any(len(tokens) > 1 for tokens in ensemble.members[0].passes)


def test_no_requests_have_no_answers(make_ensemble):
    assert Runner(make_ensemble(TEXTS), RequestCache()).answer([]) == []


def test_a_second_run_asks_nothing_and_says_the_same(make_ensemble, tmp_path):
    file = tmp_path / "requests.jsonl"
    first = Runner(make_ensemble(TEXTS), RequestCache(file)).answer(PROMPTS)
    ensemble, told = make_ensemble(TEXTS), []
    assert Runner(ensemble, RequestCache(file), told.append).answer(PROMPTS) == first
    assert num_passes(ensemble) == 0
    assert sum(told) == len(PROMPTS)


def test_other_weights_are_asked_anew(make_ensemble, tmp_path):
    file = tmp_path / "requests.jsonl"
    Runner(make_ensemble(TEXTS), RequestCache(file)).answer(PROMPTS)
    other = make_ensemble(TEXTS, weights=(0.6, 0.4))
    Runner(other, RequestCache(file)).answer(PROMPTS)
    assert num_passes(other) > 0


def test_a_request_that_comes_twice_is_asked_once(make_ensemble):
    cache, told = RequestCache(), []
    answers = Runner(make_ensemble(TEXTS), cache, told.append).answer([PROMPTS[0]] * 3)
    assert len(cache) == 1 and len(set(answers)) == 1
    assert sum(told) == 3


def test_what_was_answered_before_a_failure_is_kept(make_ensemble, tmp_path):
    file = tmp_path / "requests.jsonl"
    ensemble = make_ensemble(TEXTS, kinds=("bpe",), max_batch_size=1)
    Runner(ensemble, RequestCache(file)).answer(PROMPTS[:1])
    broken = make_ensemble(TEXTS, kinds=("bpe",), max_batch_size=1)

    def fail(tokens):
        raise RuntimeError("out of memory")

    broken.members[0].before_pass = fail
    with pytest.raises(MemberError, match="out of memory"):
        Runner(broken, RequestCache(file)).answer(PROMPTS)
    assert len(RequestCache(file)) == 1


def test_what_runs_at_an_interruption_is_finished_and_kept(make_ensemble, tmp_path):
    file = tmp_path / "requests.jsonl"

    def interrupt(number):
        if number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Runner(make_ensemble(TEXTS), RequestCache(file), interrupt).answer(PROMPTS)
    assert len(RequestCache(file)) == 2


def test_a_request_that_cannot_be_run_is_refused_and_the_others_are_kept(make_ensemble, tmp_path):
    file = tmp_path / "requests.jsonl"
    with pytest.raises(PromptError, match="is empty"):
        Runner(make_ensemble(TEXTS), RequestCache(file)).answer([PROMPTS[0], ScoreRequest("Who?", "")])
    assert len(RequestCache(file)) == 1


def test_answers_of_another_version_are_refused_with_what_to_do(make_ensemble, tmp_path):
    file = tmp_path / "requests.jsonl"
    Runner(make_ensemble(TEXTS), RequestCache(file)).answer(PROMPTS)
    file.write_text(file.read_text().replace('"num_tokens"', '"tokens"'))
    with pytest.raises(CacheError, match="another version, so ask anew"):
        Runner(make_ensemble(TEXTS), RequestCache(file)).answer(PROMPTS)
