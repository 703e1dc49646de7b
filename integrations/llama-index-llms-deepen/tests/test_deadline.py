"""An answer that takes too long is an error, and its work ends."""

from __future__ import annotations

import asyncio
import time

import pytest
from llama_index.core.llms import ChatMessage

from deepen_llm import Chunk, Usage
from deepen_llm.errors import ClosedError, DeepenError, MemberTimeoutError
from deepen_llm.results import TokenLogprob
from llama_index.llms.deepen import DeepenLLM
from llama_index.llms.deepen.deadline import join

ARGUMENTS = {"complete": "Capital?", "chat": [ChatMessage(role="user", content="Capital?")]}
WAYS = tuple(f"{way}{kind}" for kind in ARGUMENTS for way in ("", "a", "stream_", "astream_"))
LONG = {"max_tokens": 900, "ignore_eos": True}


async def _call(llm, method, **options):
    """The last response of any of the eight methods."""
    kind = "chat" if method.endswith("chat") else "complete"
    result = getattr(llm, method)(ARGUMENTS[kind], **options)
    if method.startswith("a"):
        result = await result
    if "stream" not in method:
        return result
    return [response async for response in result][-1] if method.startswith("a") else list(result)[-1]


def _is_idle(ensemble):
    """Whether the engine ends the work, which it does between two steps; 20 s is no measure of speed."""
    deadline = time.monotonic() + 20
    while ensemble.num_running and time.monotonic() < deadline:
        time.sleep(0.005)
    return ensemble.num_running == 0


@pytest.mark.parametrize("method", WAYS)
@pytest.mark.parametrize("is_of_the_call", [True, False])
async def test_an_answer_that_takes_too_long_is_an_error_and_frees_the_engine(starter, method, is_of_the_call):
    llm = DeepenLLM(ensemble=starter, **LONG, timeout=None if is_of_the_call else 0.05)
    with pytest.raises(MemberTimeoutError, match=r"within timeout=0\.05 s; .* raise timeout") as caught:
        await _call(llm, method, **({"timeout": 0.05} if is_of_the_call else {}))
    assert isinstance(caught.value, TimeoutError) and isinstance(caught.value, DeepenError)
    assert _is_idle(starter)


@pytest.mark.parametrize("method", WAYS)
async def test_an_answer_in_time_is_as_without_a_limit(starter, method):
    llm = DeepenLLM(ensemble=starter, max_tokens=12, logprobs=1, trace=True)
    free, limited = await _call(llm, method), await _call(llm, method, timeout=60)
    assert (str(free), free.raw["usage"]) == (str(limited), limited.raw["usage"])
    assert free.raw["finish_reason"] == limited.raw["finish_reason"]
    assert (free.logprobs, free.raw.get("trace")) == (limited.logprobs, limited.raw.get("trace"))


async def test_the_limit_of_a_call_counts(ensemble):
    ensemble.delay_s = 0.02
    llm = DeepenLLM(ensemble=ensemble, timeout=0.001)
    for method in WAYS:
        assert str(await _call(llm, method, timeout=30)).endswith("Paris is it.")
    assert (ensemble.num_running, ensemble.num_cancelled) == (0, 0)


def test_a_stream_that_is_read_slowly_is_whole_once_the_engine_is_done(starter):
    stream = DeepenLLM(ensemble=starter, max_tokens=3, timeout=5.0).stream_complete("Hello")
    pieces = [next(stream)]
    assert _is_idle(starter)
    assert [*pieces, *stream][-1].raw["finish_reason"]


async def test_the_clock_cancels_nothing_of_the_reader(ensemble):
    ensemble.delay_s = 0.0
    stream = await DeepenLLM(ensemble=ensemble, timeout=0.05).astream_complete("Capital?")
    await anext(stream)
    await asyncio.sleep(0.1)
    ensemble.delay_s = 5.0
    with pytest.raises(MemberTimeoutError):
        await anext(stream)
    assert ensemble.num_running == 0


async def test_a_timeout_of_the_caller_stays_his_own(ensemble):
    ensemble.delay_s = 5
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.02):
            await DeepenLLM(ensemble=ensemble, timeout=60).acomplete("Capital?")
    assert not isinstance(caught.value, DeepenError)
    assert ensemble.num_cancelled == 1


def test_pieces_join_to_the_whole():
    first = Chunk("Pa", (1,), (TokenLogprob(1, "Pa", -1.0),))
    last = Chunk("ris", (2,), (TokenLogprob(2, "ris", -2.0),), None, "stop", Usage(3, 2))
    whole = join([first, last])
    assert (whole.text, whole.token_ids, whole.finish_reason, whole.usage) == ("Paris", (1, 2), "stop", Usage(3, 2))
    assert ([token.logprob for token in whole.logprobs], whole.trace) == ([-1.0, -2.0], None)


@pytest.mark.parametrize("pieces", [[], [Chunk("Pa", (1,))]])
def test_pieces_without_the_last_are_no_answer(pieces):
    with pytest.raises(ClosedError, match="closed before the answer was whole"):
        join(pieces)
