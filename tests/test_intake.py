"""Requests on their way in: what cannot be answered is refused at once, by an own error, and holds up nobody."""

from __future__ import annotations

import asyncio
import gc
import os
import time

import pytest

from deepen_llm import Ensemble, SamplingParams
from deepen_llm.errors import ClosedError, ConfigError, ContextLengthError, MemberError, PromptError
from deepen_llm.testing import ScriptedMember
from deepen_llm.vocabulary.segmenter import BackendSegmenter
from tests.test_ensemble import STORY, TEXTS

USER = [{"role": "user", "content": "hi"}]
FAR_TOO_LONG = "The quick brown fox. " * 100_000


@pytest.fixture
def ensemble(make_ensemble):
    return make_ensemble(TEXTS)


async def read(stream):
    return [chunk async for chunk in stream]


def watch_texts(monkeypatch):
    """The texts that are put into tokens from now on."""
    segment, seen = BackendSegmenter.segment, []

    def watched(self, text, at_start):
        seen.append(text)
        return segment(self, text, at_start)

    monkeypatch.setattr(BackendSegmenter, "segment", watched)
    return seen


WAYS = {
    "generate": lambda ensemble, text: ensemble.generate(text),
    "stream": lambda ensemble, text: list(ensemble.stream(text)),
    "agenerate": lambda ensemble, text: asyncio.run(ensemble.agenerate(text)),
    "chat": lambda ensemble, text: ensemble.chat([{"role": "user", "content": text}]),
    "achat": lambda ensemble, text: asyncio.run(ensemble.achat([{"role": "user", "content": text}])),
    "score": lambda ensemble, text: ensemble.score(text, "a"),
    "score_chat": lambda ensemble, text: ensemble.score_chat([{"role": "user", "content": text}], "a"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_text_far_too_long_is_refused_by_its_beginning(ensemble, way, monkeypatch):
    seen = watch_texts(monkeypatch)
    with pytest.raises(ContextLengthError, match=r"more than .* tokens for member 'bpe', whose context holds 512"):
        WAYS[way](ensemble, FAR_TOO_LONG)
    assert sum(map(len, seen)) < len(FAR_TOO_LONG) / 10
    assert ensemble.num_running == 0


def test_a_prompt_is_put_into_tokens_once_for_each_member(ensemble, monkeypatch):
    seen = watch_texts(monkeypatch)
    ensemble.generate(STORY[:20], SamplingParams(max_new_tokens=1))
    assert seen.count(STORY[:20]) == 2


def test_a_long_prompt_does_not_hold_an_event_loop(ensemble, monkeypatch):
    segment = BackendSegmenter.segment

    def slow(self, text, at_start):
        time.sleep(0.3 if len(text) > 1000 else 0)
        return segment(self, text, at_start)

    monkeypatch.setattr(BackendSegmenter, "segment", slow)

    async def longest_wait():
        begin, waits, asked = time.monotonic(), [], asyncio.create_task(ensemble.agenerate("word " * 2000))
        while not asked.done():
            await asyncio.sleep(0.01)
            begin, waits = time.monotonic(), [*waits, time.monotonic() - begin]
        with pytest.raises(ContextLengthError):
            await asked
        return max(waits)

    assert asyncio.run(longest_wait()) < 0.25


@pytest.mark.parametrize("params", [{"max_new_tokens": 3}, 0, [], "greedy", SamplingParams])
def test_parameters_of_another_type_are_refused_by_name(ensemble, params):
    calls = [
        lambda: ensemble.generate(STORY[:4], params),
        lambda: ensemble.stream(STORY[:4], params),
        lambda: ensemble.chat(USER, params),
        lambda: ensemble.stream_chat(USER, params),
        lambda: asyncio.run(ensemble.agenerate(STORY[:4], params)),
        lambda: asyncio.run(ensemble.achat(USER, params)),
        lambda: asyncio.run(read(ensemble.astream(STORY[:4], params))),
        lambda: asyncio.run(read(ensemble.astream_chat(USER, params))),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="params must be SamplingParams"):
            call()
    assert ensemble.generate(STORY[:4]).text == STORY[4:]


@pytest.mark.parametrize("prompt", [None, 3, b"", {}, [None], ["a", b"b"], "\ud800"])
def test_prompts_of_another_type_are_refused_by_name(ensemble, prompt):
    for call in (ensemble.generate, lambda prompt: asyncio.run(ensemble.agenerate(prompt))):
        with pytest.raises(PromptError, match="prompt"):
            call(prompt)


@pytest.mark.parametrize("text", [None, 3, b"a", "\ud800"])
def test_texts_of_another_type_are_refused_by_name(ensemble, text):
    calls = {
        "the context": lambda: ensemble.score(text, "a"),
        "the continuation": lambda: ensemble.score("a", text),
        "the reply": lambda: ensemble.score_chat(USER, text),
        "text": lambda: ensemble.encode(text),
        "^text": lambda: ensemble.count_tokens(text),
        "the prompt": lambda: ensemble.stream(text),
    }
    for name, call in calls.items():
        with pytest.raises(PromptError, match=f"{name} must be"):
            call()


@pytest.mark.parametrize("pairs", [None, [("a",)], ["ab"], "ab", [None], [("a", "b", "c")], {"a": "b"}])
def test_what_is_no_list_of_pairs_is_refused(ensemble, pairs):
    for call in (ensemble.score_batch, ensemble.score_chat_batch):
        with pytest.raises(PromptError, match=r"pairs must be a list of \((context, continuation|messages, reply)\)"):
            call(pairs)


def test_a_member_that_is_closed_while_an_answer_runs_fails_it_and_what_comes_after(ensemble):
    stream = ensemble.stream(STORY[:4], SamplingParams(max_new_tokens=400, ignore_eos=True))
    next(stream)
    ensemble.members[1].close()
    with pytest.raises(MemberError, match=r"'sentencepiece' failed .*closed"):
        list(stream)
    with pytest.raises(MemberError, match=r"'sentencepiece' failed .*closed"):
        ensemble.generate(STORY[:4])
    assert ensemble.num_running == 0


def test_where_two_ensembles_share_members_and_one_is_dropped_the_other_says_so(vocabularies):
    members = [ScriptedMember(vocabularies[kind], TEXTS) for kind in ("bpe", "sentencepiece")]
    kept, dropped = Ensemble(members), Ensemble(members)
    assert kept.generate(STORY[:4]).text == dropped.generate(STORY[:4]).text
    del dropped
    gc.collect()
    with pytest.raises(MemberError, match="closed"):
        kept.generate(STORY[:4])
    kept.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("way", ["generate", "stream", "chat", "score"])
def test_in_a_forked_process_an_ensemble_says_at_once_what_is_wrong(ensemble, way):
    assert ensemble.generate(STORY[:4]).text == STORY[4:]
    child = os.fork()
    if not child:
        status = 1
        try:
            WAYS[way](ensemble, STORY[:4])
        except ClosedError as error:
            status = 0 if "make the ensemble after the fork" in str(error) else 2
        finally:
            ensemble.close()
            os._exit(status)
    assert os.waitstatus_to_exitcode(_wait(child)) == 0
    assert ensemble.generate(STORY[:4]).text == STORY[4:]


def _wait(child, seconds=20):
    """The child's exit status; one that hangs is killed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.02)
    os.kill(child, 9)
    return os.waitpid(child, 0)[1]
