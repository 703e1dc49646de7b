"""What observers see: one start and one end for each call, and the tokens that it used."""

from __future__ import annotations

import asyncio
import json

import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.rate_limiter import BaseRateLimiter
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel

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


class Lamp(BaseModel):
    owner: str


@pytest.fixture
def spans():
    root = get_dispatcher()
    handler = SimpleSpanHandler()
    root.add_span_handler(handler)
    yield handler
    root.span_handlers.remove(handler)


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


PREDICTIONS = ("structured_predict", "astructured_predict", "stream_structured_predict", "astream_structured_predict")


@pytest.mark.parametrize("is_chat_model", [True, False])
@pytest.mark.parametrize("method", PREDICTIONS)
def test_a_structured_prediction_is_one_pair_of_its_own_around_one_of_the_llm(
    ensemble, recorder, method, is_chat_model
):
    async def run():
        result = getattr(DeepenLLM(ensemble=ensemble, is_chat_model=is_chat_model), method)(Lamp, PromptTemplate("?"))
        if method == "stream_structured_predict":
            return list(result)
        result = await result if method.startswith("a") else result
        return [output async for output in result] if "stream" in method else result

    ensemble.answers = ['{"owner": "Orin"}']
    asyncio.run(run())
    kind = "Chat" if is_chat_model else "Completion"
    names = [name for name in recorder.names if "InProgress" not in name]
    llms = [f"LLM{kind}StartEvent", f"LLM{kind}EndEvent"]
    assert names == ["LLMStructuredPredictStartEvent", *llms, "LLMStructuredPredictEndEvent"]
    assert ("LLMStructuredPredictInProgressEvent" in recorder.names) == ("stream" in method)


@pytest.mark.parametrize("method", ["predict", "apredict"])
def test_a_prediction_is_one_pair_of_its_own_around_one_of_the_llm(llm, recorder, method):
    async def run():
        result = getattr(llm, method)(PromptTemplate("?"))
        return await result if method == "apredict" else result

    asyncio.run(run())
    assert recorder.names == ["LLMPredictStartEvent", "LLMChatStartEvent", "LLMChatEndEvent", "LLMPredictEndEvent"]


def test_a_chat_with_tools_is_one_call_and_what_observers_see_of_it_is_json(ensemble):
    debug = LlamaDebugHandler(print_trace_on_end=False)
    llm = DeepenLLM(ensemble=ensemble, callback_manager=CallbackManager([debug]))
    llm.chat_with_tools([FunctionTool.from_defaults(lambda a: a, name="echo", description="Echoes.")], "Hi")
    (pair,) = debug.get_event_pairs(CBEventType.LLM)
    (tool,) = json.loads(json.dumps(pair[0].payload["additional_kwargs"]))["tools"]
    assert tool["function"]["name"] == "echo"


@pytest.mark.parametrize("end", ["whole", "closed", "failed"])
@pytest.mark.parametrize("method", METHODS)
def test_no_span_stays_open_however_a_call_ends(ensemble, spans, method, end):
    async def first():
        result = getattr(llm, method)(MESSAGES if METHODS[method] == "Chat" else "Capital?")
        stream = await result
        await anext(stream)
        await stream.aclose()

    llm = DeepenLLM(ensemble=ensemble)
    if end == "failed":
        ensemble.error = MemberError("beta failed")
        with pytest.raises(MemberError):
            _run(llm, method)
    elif end == "whole" or "stream" not in method:
        _run(llm, method)
    elif method.startswith("a"):
        asyncio.run(first())
    else:
        stream = getattr(llm, method)(MESSAGES if METHODS[method] == "Chat" else "Capital?")
        next(stream)
        stream.close()
    assert spans.open_spans == {}
    assert len(spans.completed_spans) + len(spans.dropped_spans) == 1
    assert ensemble.num_running == 0


@pytest.mark.parametrize("method", ["stream_complete", "stream_chat"])
def test_a_stream_that_is_closed_early_has_one_end_too(ensemble, method):
    debug = LlamaDebugHandler(print_trace_on_end=False)
    llm = DeepenLLM(ensemble=ensemble, callback_manager=CallbackManager([debug]))
    stream = getattr(llm, method)(MESSAGES if METHODS[method] == "Chat" else "Capital?")
    next(stream)
    stream.close()
    (pair,) = debug.get_event_pairs(CBEventType.LLM)
    assert len(pair) == 2 and isinstance(pair[1].payload["exception"], GeneratorExit)


@pytest.mark.parametrize("method", METHODS)
def test_each_call_asks_the_rate_limiter_once(ensemble, method):
    limiter = CountingLimiter()
    _run(DeepenLLM(ensemble=ensemble, rate_limiter=limiter), method)
    assert limiter.num_asked == 1
