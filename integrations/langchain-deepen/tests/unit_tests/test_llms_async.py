"""`DeepenLLM`, asynchronous: the loop stays live, and what nobody waits for any more stops in the engine."""

import asyncio
import contextlib

import pytest

from deepen_llm.errors import ConfigError, MemberError, PromptError
from langchain_deepen import DeepenLLM

PROMPT = "Where?"
ANSWER = "The answer is 6."


@pytest.fixture
def slow(make_ensemble):
    """An ensemble that takes 20 ms a token."""
    return make_ensemble(delay_s=0.02)


async def count_ticks(task) -> int:
    """How often the loop came round while the task ran."""
    ticks = 0
    while not task.done():
        await asyncio.sleep(0.002)
        ticks += 1
    return ticks


async def test_ainvoke_and_abatch_answer_as_their_twins_do(ensemble):
    llm = DeepenLLM(ensemble=ensemble)
    assert await llm.ainvoke(PROMPT) == ANSWER
    assert await llm.abatch(["a", "bb"]) == ["The answer is 1.", "The answer is 2."]
    assert [method for method, _, _ in ensemble.calls] == ["agenerate", "agenerate"]
    assert ensemble.calls[1][1] == ["a", "bb"]


async def test_astream_yields_the_pieces(ensemble):
    pieces = [piece async for piece in DeepenLLM(ensemble=ensemble).astream(PROMPT)]
    assert pieces == ["The", " answer", " is", " 6", ".", ""]
    assert ensemble.calls[0][0] == "astream"


async def test_the_loop_stays_live(slow):
    llm = DeepenLLM(ensemble=slow)
    assert await count_ticks(asyncio.create_task(llm.ainvoke(PROMPT))) >= 5

    async def consume():
        return [piece async for piece in llm.astream(PROMPT)]

    assert await count_ticks(asyncio.create_task(consume())) >= 5


async def test_options_and_stop_of_one_call_reach_the_engine(ensemble):
    llm = DeepenLLM(ensemble=ensemble)
    assert await llm.ainvoke(PROMPT, max_tokens=2) == "The answer"
    assert await llm.bind(stop=[" is"], seed=3).ainvoke(PROMPT) == "The answer"
    assert ensemble.params.seed == 3
    assert "".join([piece async for piece in llm.astream(PROMPT, max_tokens=1)]) == "The"
    with pytest.raises(ConfigError, match="no option 'beams'"):
        await llm.ainvoke(PROMPT, beams=4)


@pytest.mark.parametrize("streaming", [False, True])
async def test_cancelling_the_task_stops_the_engine(slow, streaming):
    llm = DeepenLLM(ensemble=slow, streaming=streaming)
    slow.delay_s = 10.0
    task = asyncio.create_task(llm.ainvoke(PROMPT))
    while not slow.num_running:
        await asyncio.sleep(0)
    assert slow.num_running == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (slow.num_running, slow.num_cancelled) == (0, 1)


async def test_cancelling_a_streaming_task_stops_the_engine(slow):
    async def consume():
        return [piece async for piece in DeepenLLM(ensemble=slow).astream(PROMPT)]

    slow.delay_s = 10.0
    task = asyncio.create_task(consume())
    while not slow.num_running:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (slow.num_running, slow.num_cancelled) == (0, 1)


async def test_an_abandoned_stream_stops_the_engine(slow):
    async with contextlib.aclosing(DeepenLLM(ensemble=slow).astream(PROMPT)) as pieces:
        async for piece in pieces:
            assert piece == "The"
            break
    await asyncio.sleep(0)
    assert (slow.num_running, slow.num_cancelled) == (0, 1)


async def test_callbacks_receive_every_token(ensemble, recorder):
    llm = DeepenLLM(ensemble=ensemble, streaming=True)
    await llm.ainvoke(PROMPT, config={"callbacks": [recorder]})
    assert "".join(recorder.tokens) == ANSWER
    assert [chunk.text for chunk in recorder.chunks] == recorder.tokens
    info = recorder.results[0].generations[0][0].generation_info
    assert info == {
        "finish_reason": "stop",
        "token_usage": {"prompt_tokens": 6, "completion_tokens": 5, "total_tokens": 11},
    }


async def test_streaming_sends_a_batchs_tokens_to_their_own_runs(ensemble, recorder):
    llm = DeepenLLM(ensemble=ensemble, streaming=True)
    answers = await llm.abatch(["a", "bb"], config={"callbacks": [recorder]})
    assert sorted("".join(tokens) for tokens in recorder.tokens_by_run.values()) == answers


async def test_astream_events_carry_the_tokens_and_the_usage(ensemble):
    events = [event async for event in DeepenLLM(ensemble=ensemble).astream_events(PROMPT)]
    tokens = [event["data"]["chunk"] for event in events if event["event"] == "on_llm_stream"]
    assert "".join(tokens) == ANSWER
    assert events[-1]["event"] == "on_llm_end"


async def test_errors_surface_at_once(make_ensemble, recorder):
    llm = DeepenLLM(ensemble=make_ensemble(fails_after=2))
    with pytest.raises(MemberError, match="failed at step 2"):
        async for _ in llm.astream(PROMPT, config={"callbacks": [recorder]}):
            pass
    assert len(recorder.errors) == 1
    with pytest.raises(PromptError, match="takes 512"):
        await llm.ainvoke("too long")


async def test_with_return_exceptions_a_bad_prompt_fails_alone(ensemble):
    llm = DeepenLLM(ensemble=ensemble)
    first, second = await llm.abatch(["a", "too long"], return_exceptions=True)
    assert first == "The answer is 1."
    assert isinstance(second, PromptError)
