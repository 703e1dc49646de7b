"""What observers see: one start and one end for each call, and the tokens that it used."""

from __future__ import annotations

import asyncio

import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import ChatMessage
from llama_index.core.rate_limiter import BaseRateLimiter

from deepen_llm.errors import ConfigError, MemberError
from llama_index.llms.deepen import DeepenLLM

MESSAGES = [ChatMessage(role="user", content="Capital?")]
METHODS = {
    "complete": "Completion",
    "stream_complete": "Completion",
    "acomplete": "Completion",
    "astream_complete": "Completion",
    "chat": "Chat",
    "stream_chat": "Chat",
    "achat": "Chat",
    "astream_chat": "Chat",
}


class Recorder(BaseEventHandler):
    """Keeps the names of all events."""

    names: list[str]

    @classmethod
    def class_name(cls):
        return "Recorder"

    def handle(self, event, **kwargs):
        self.names.append(event.class_name())


class CountingLimiter(BaseRateLimiter):
    """Counts how often it was asked."""

    def __init__(self):
        self.num_asked = 0

    def acquire(self, num_tokens=0):
        self.num_asked += 1

    async def async_acquire(self, num_tokens=0):
        self.num_asked += 1


@pytest.fixture
def recorder():
    root = get_dispatcher()
    handler = Recorder(names=[])
    root.add_event_handler(handler)
    yield handler
    root.event_handlers.remove(handler)


def _run(llm, method, **kwargs):
    """The method's last response, in an event loop of its own where it is async."""

    async def run():
        result = getattr(llm, method)(MESSAGES if METHODS[method] == "Chat" else "Capital?", **kwargs)
        if method.startswith("a"):
            result = await result
        if "stream" not in method:
            return result
        return [item async for item in result][-1] if method.startswith("a") else list(result)[-1]

    return asyncio.run(run())


@pytest.mark.parametrize("method", METHODS)
def test_each_call_has_one_start_and_one_end_event(llm, recorder, method):
    _run(llm, method)
    kind = METHODS[method]
    pieces = [f"LLM{kind}InProgressEvent"] * (4 if "stream" in method else 0)
    assert recorder.names == [f"LLM{kind}StartEvent", *pieces, f"LLM{kind}EndEvent"]


@pytest.mark.parametrize("method", METHODS)
def test_each_call_is_one_pair_for_the_callback_handlers(ensemble, method):
    debug = LlamaDebugHandler(print_trace_on_end=False)
    _run(DeepenLLM(ensemble=ensemble, callback_manager=CallbackManager([debug])), method)
    assert [len(pair) for pair in debug.get_event_pairs(CBEventType.LLM)] == [2]


@pytest.mark.parametrize("method", METHODS)
def test_the_token_counter_reads_the_engines_own_counts(ensemble, method):
    counter = TokenCountingHandler(tokenizer=lambda text: pytest.fail("estimated"))
    llm = DeepenLLM(ensemble=ensemble, callback_manager=CallbackManager([counter]))
    _run(llm, method)
    _run(llm, method)
    assert (counter.prompt_llm_token_count, counter.completion_llm_token_count) == (22, 14)
    assert [event.total_token_count for event in counter.llm_token_counts] == [18, 18]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fails", ["an option", "a member"])
def test_a_call_that_fails_has_an_end_too(ensemble, method, fails):
    ensemble.error = MemberError("beta failed")
    debug = LlamaDebugHandler(print_trace_on_end=False)
    llm = DeepenLLM(ensemble=ensemble, callback_manager=CallbackManager([debug]))
    with pytest.raises(MemberError if fails == "a member" else ConfigError):
        _run(llm, method, **({} if fails == "a member" else {"temprature": 1}))
    (pair,) = debug.get_event_pairs(CBEventType.LLM)
    assert ("beta failed" if fails == "a member" else "temprature") in str(pair[1].payload["exception"])
    assert len(pair) == 2


@pytest.mark.parametrize("method", METHODS)
def test_each_call_asks_the_rate_limiter_once(ensemble, method):
    limiter = CountingLimiter()
    _run(DeepenLLM(ensemble=ensemble, rate_limiter=limiter), method)
    assert limiter.num_asked == 1
