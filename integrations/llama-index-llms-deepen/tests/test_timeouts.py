"""An answer that takes too long is an error, and its work ends."""

from __future__ import annotations

import time

import pytest
from llama_index.core.llms import ChatMessage

from deepen_llm.errors import DeepenError, MemberTimeoutError
from llama_index.llms.deepen import DeepenLLM

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
    with pytest.raises(MemberTimeoutError, match=r"within its timeout of 0\.05 s; .* raise the timeout") as caught:
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
    llm = DeepenLLM(ensemble=ensemble, timeout=0.5)
    for method in WAYS:
        await _call(llm, method)
        await _call(llm, method, timeout=30)
    assert [params.timeout_s for _, _, params in ensemble.calls] == [0.5, 30] * len(WAYS)
