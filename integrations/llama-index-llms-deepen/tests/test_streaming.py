"""Streams and async twins: cumulative text, cancellation, and an event loop that stays responsive."""

from __future__ import annotations

import asyncio
import gc

import pytest
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.llms import ChatMessage

from deepen_llm import Chunk, Generation, Usage
from deepen_llm.errors import MemberError
from deepen_llm.results import Candidate, MemberTrace, StepTrace, TokenLogprob
from llama_index.llms.deepen import DeepenLLM

ARGUMENTS = {"complete": "Capital?", "chat": [ChatMessage(role="user", content="Capital?")]}
KINDS = tuple(ARGUMENTS)


def _stream(llm, kind, **kwargs):
    return getattr(llm, f"stream_{kind}")(ARGUMENTS[kind], **kwargs)


def _astream(llm, kind, **kwargs):
    return getattr(llm, f"astream_{kind}")(ARGUMENTS[kind], **kwargs)


def _text(response):
    return response.text if hasattr(response, "text") else response.message.content


def _check_pieces(responses):
    assert [response.delta for response in responses] == ["Paris", " is", " it.", ""]
    assert [_text(response) for response in responses] == ["Paris", "Paris is", "Paris is it.", "Paris is it."]
    assert [response.raw is None for response in responses] == [True, True, True, False]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_gives_the_text_so_far_and_what_is_new(llm, ensemble, kind):
    _check_pieces(list(_stream(llm, kind)))
    assert (ensemble.num_running, ensemble.num_cancelled) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_async_stream_gives_the_same(llm, ensemble, kind):
    _check_pieces([response async for response in await _astream(llm, kind)])
    assert (ensemble.num_running, ensemble.num_cancelled) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_that_nobody_reads_starts_no_work(llm, ensemble, kind):
    stream = _stream(llm, kind)
    assert ensemble.calls == []
    stream.close()
    assert ensemble.calls == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_in_mid_stream_arrives_at_once(llm, ensemble, kind):
    ensemble.error = MemberError("beta failed at step 2")
    stream = _stream(llm, kind)
    assert next(stream).delta == "Paris"
    with pytest.raises(MemberError, match="beta failed at step 2"):
        next(stream)
    assert ensemble.num_running == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_an_error_in_an_async_stream_arrives_at_once(llm, ensemble, kind):
    ensemble.error = MemberError("beta failed at step 2")
    stream = await _astream(llm, kind)
    assert (await anext(stream)).delta == "Paris"
    with pytest.raises(MemberError, match="beta failed at step 2"):
        await anext(stream)
    assert ensemble.num_running == 0


@pytest.mark.parametrize("end", ["close", "let go"])
@pytest.mark.parametrize("is_watched", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_an_abandoned_stream_stops_the_work(ensemble, kind, is_watched, end):
    """Also where a handler keeps the exception by which the stream ended, and so the frames that it passed."""
    handlers = [LlamaDebugHandler(print_trace_on_end=False)] if is_watched else []
    llm = DeepenLLM(ensemble=ensemble, callback_manager=CallbackManager(handlers))
    stream = _stream(llm, kind)
    next(stream)
    assert ensemble.num_running == 1
    if end == "close":
        stream.close()
    del stream
    assert (ensemble.num_running, ensemble.num_cancelled) == (0, 1)


@pytest.mark.parametrize("end", ["close", "let go"])
@pytest.mark.parametrize("is_watched", [False, True])
@pytest.mark.parametrize("kind", KINDS)
async def test_an_abandoned_async_stream_stops_the_work(ensemble, kind, is_watched, end):
    handlers = [LlamaDebugHandler(print_trace_on_end=False)] if is_watched else []
    llm = DeepenLLM(ensemble=ensemble, callback_manager=CallbackManager(handlers))
    stream = await _astream(llm, kind)
    await anext(stream)
    assert ensemble.num_running == 1
    if end == "close":
        await stream.aclose()
    else:
        del stream
        gc.collect()
        await asyncio.sleep(0.01)
    assert (ensemble.num_running, ensemble.num_cancelled) == (0, 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelling_the_task_of_an_answer_stops_the_work(llm, ensemble, kind):
    ensemble.delay_s = 60
    task = asyncio.create_task(getattr(llm, f"a{kind}")(ARGUMENTS[kind]))
    while not ensemble.num_running and not task.done():
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (ensemble.num_running, ensemble.num_cancelled) == (0, 1)


@pytest.mark.parametrize("kind", KINDS)
async def test_cancelling_the_task_that_reads_a_stream_stops_the_work(llm, ensemble, kind):
    async def read():
        return [response async for response in await _astream(llm, kind)]

    ensemble.delay_s = 60
    task = asyncio.create_task(read())
    while not ensemble.num_running and not task.done():
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (ensemble.num_running, ensemble.num_cancelled) == (0, 1)


@pytest.mark.parametrize("method", ["acomplete", "achat", "astream_complete", "astream_chat"])
async def test_the_event_loop_goes_on_and_calls_run_side_by_side(llm, ensemble, method):
    async def call():
        result = await getattr(llm, method)(ARGUMENTS[method.removeprefix("a").removeprefix("stream_")])
        if "stream" in method:
            return [response async for response in result][-1]
        return result

    ensemble.delay_s = 0.2 if "stream" not in method else 0.05
    most_at_once = 0
    tasks = [asyncio.create_task(call()) for _ in range(3)]
    while not all(task.done() for task in tasks):
        most_at_once = max(most_at_once, ensemble.num_running)
        await asyncio.sleep(0.001)
    assert most_at_once == 3
    assert {_text(task.result()) for task in tasks} == {"Paris is it."}


def test_logprobs_and_trace_are_reported_where_asked(llm, ensemble, monkeypatch):
    alternatives = (Candidate(5, "Paris", 0.5), Candidate(6, "Rome", 0.25), Candidate(7, "Oslo", 0.0))
    logprobs = (TokenLogprob(5, "Paris", -0.6931, alternatives),)
    trace = (StepTrace(0, 5, "Paris", (MemberTrace("alpha", alternatives),), alternatives, ("beta",)),)
    answer = Generation("Paris", (5,), "length", Usage(3, 1), logprobs, trace)
    monkeypatch.setattr(ensemble, "chat", lambda messages, params, **options: answer)
    response = llm.chat(ARGUMENTS["chat"], logprobs=3, trace=True)
    assert [(entry.token, round(entry.logprob, 3)) for entry in response.logprobs[0]] == [
        ("Paris", -0.693),
        ("Rome", -1.386),
        ("Oslo", float("-inf")),
    ]
    assert response.raw["finish_reason"] == "length"
    assert response.raw["trace"][0]["changed_by"] == ("beta",)
    assert response.raw["trace"][0]["members"][0]["member"] == "alpha"


def test_each_piece_of_a_stream_has_the_logprobs_of_its_own_tokens(llm, ensemble):
    first = Chunk("Paris", (5,), (TokenLogprob(5, "Paris", -1.0),))
    last = Chunk("", (2,), (TokenLogprob(2, "", -2.0),), None, "stop", Usage(3, 2))
    ensemble.chunks = [first, last]
    logprobs = [response.logprobs[0][0].logprob for response in llm.stream_complete("Capital?", logprobs=0)]
    assert logprobs == [-1.0, -2.0]
