"""What runs in the engine: batches that share its steps, and work that stops when nobody waits for it any more."""

import asyncio
import time

import pytest

from deepen_llm.bench.forgetful import make_forgetful
from deepen_llm.errors import ContextLengthError, MemberTimeoutError
from langchain_deepen import ChatDeepen, DeepenLLM

PROMPTS = ["Hello!", "What is the capital of France?", "Who are you?", "What is 2 + 3?"]
LONG = {"max_tokens": 400, "ignore_eos": True}

pytestmark = pytest.mark.parametrize("model_class", [DeepenLLM, ChatDeepen])


@pytest.fixture
def model(model_class, ensemble):
    return model_class(ensemble=ensemble, max_tokens=12, ignore_eos=True)


@pytest.fixture
def plain_model(model_class, ensemble):
    """Over an ensemble that takes a pass for every token, so that they can be counted."""
    with make_forgetful(ensemble, num_speculative_tokens=0) as forgetful:
        yield model_class(ensemble=forgetful, max_tokens=12, ignore_eos=True)


@pytest.fixture
def passes(ensemble, monkeypatch):
    """How many rows each forward pass of the main model took."""
    main, counts = ensemble.members[0], []
    extend = main.start_extend

    def count(tokens, *args, **kwargs):
        counts.append(len(tokens))
        return extend(tokens, *args, **kwargs)

    monkeypatch.setattr(main, "start_extend", count)
    return counts


def text(answer):
    return answer if isinstance(answer, str) else answer.content


async def until(condition):
    """Wait until something holds, at most five seconds; say whether it does."""
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        await asyncio.sleep(0.005)
    return condition()


@pytest.mark.parametrize("return_exceptions", [False, True])
def test_a_batch_shares_the_engines_steps(plain_model, passes, return_exceptions):
    answers = plain_model.batch(PROMPTS, return_exceptions=return_exceptions)
    num_passes = len(passes)
    assert max(passes) == 4
    passes.clear()
    assert [text(one) for one in answers] == [text(plain_model.invoke(prompt)) for prompt in PROMPTS]
    assert num_passes < len(passes) / 2


@pytest.mark.parametrize("return_exceptions", [False, True])
async def test_an_abatch_shares_the_engines_steps(model, passes, return_exceptions):
    answers = await model.abatch(PROMPTS, return_exceptions=return_exceptions)
    assert max(passes) == 4
    assert len(passes) < 2 * 12
    assert len(answers) == 4


async def test_one_prompt_that_fails_leaves_the_others(model, ensemble):
    long = "word " * 2 * ensemble.context_length
    alone = [text(model.invoke(prompt)) for prompt in PROMPTS[:2]]
    for answers in (
        model.batch([PROMPTS[0], long, PROMPTS[1]], return_exceptions=True),
        await model.abatch([PROMPTS[0], long, PROMPTS[1]], return_exceptions=True),
    ):
        assert isinstance(answers[1], ContextLengthError)
        assert [text(answers[0]), text(answers[2])] == alone
    with pytest.raises(ContextLengthError):
        await model.abatch([PROMPTS[0], long])
    assert await until(lambda: ensemble.num_running == 0)


@pytest.mark.parametrize("call", ["ainvoke", "abatch", "astream", "astream_events"])
async def test_cancelling_a_task_empties_the_engine(model, ensemble, call):
    async def stream(pieces):
        async for _ in pieces:
            pass

    work = {
        "ainvoke": lambda: model.ainvoke(PROMPTS[0], **LONG),
        "abatch": lambda: model.abatch(PROMPTS, **LONG),
        "astream": lambda: stream(model.astream(PROMPTS[0], **LONG)),
        "astream_events": lambda: stream(model.astream_events(PROMPTS[0], version="v2", **LONG)),
    }[call]
    task = asyncio.ensure_future(work())
    assert await until(lambda: ensemble.num_running == (4 if call == "abatch" else 1))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await until(lambda: ensemble.num_running == 0)


@pytest.mark.parametrize("call", ["invoke", "batch", "stream"])
async def test_a_request_that_takes_too_long_is_stopped(model, ensemble, call):
    work = {
        "invoke": lambda: model.invoke(PROMPTS[0], timeout=0.1, **LONG),
        "batch": lambda: model.batch(PROMPTS, timeout=0.1, **LONG),
        "stream": lambda: list(model.stream(PROMPTS[0], timeout=0.1, **LONG)),
    }[call]
    begun = time.monotonic()
    with pytest.raises(MemberTimeoutError, match=r"its timeout of 0\.1 s"):
        work()
    assert time.monotonic() - begun < 2
    assert await until(lambda: ensemble.num_running == 0)


@pytest.mark.parametrize("call", ["ainvoke", "abatch", "astream"])
async def test_the_async_twins_are_stopped_too(model, ensemble, call):
    async def stream():
        return [piece async for piece in model.astream(PROMPTS[0], timeout=0.1, **LONG)]

    work = {
        "ainvoke": lambda: model.ainvoke(PROMPTS[0], timeout=0.1, **LONG),
        "abatch": lambda: model.abatch(PROMPTS, timeout=0.1, **LONG),
        "astream": stream,
    }[call]
    with pytest.raises(TimeoutError, match=r"its timeout of 0\.1 s"):
        await work()
    assert await until(lambda: ensemble.num_running == 0)


async def test_an_answer_in_time_is_the_same_as_without_a_limit(model):
    timed = model.model_copy(update={"timeout": 60.0})
    alone = [text(model.invoke(prompt)) for prompt in PROMPTS[:2]]
    assert [text(one) for one in timed.batch(PROMPTS[:2])] == alone
    assert "".join(text(piece) for piece in timed.stream(PROMPTS[0])) == alone[0]
    assert text(await timed.ainvoke(PROMPTS[0])) == alone[0]
    assert "".join([text(piece) async for piece in timed.astream(PROMPTS[0])]) == alone[0]


async def test_events_of_version_2_tell_of_every_piece_once(model, model_class):
    kind = "on_llm" if model_class is DeepenLLM else "on_chat_model"
    config = {"tags": ["a tag"], "metadata": {"who": "me"}}
    events = [event async for event in model.astream_events(PROMPTS[0], config=config, version="v2")]
    pieces = [event for event in events if event["event"] == f"{kind}_stream"]
    assert (events[0]["event"], events[-1]["event"]) == (f"{kind}_start", f"{kind}_end")
    streamed = "".join(chunk.text if hasattr(chunk := event["data"]["chunk"], "text") else chunk for event in pieces)
    assert streamed == text(model.invoke(PROMPTS[0]))
    assert all(event["tags"] == ["a tag"] and event["metadata"]["who"] == "me" for event in events)
