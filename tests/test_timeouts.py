"""A request that is not done in time fails and its work ends; scripted members that hang until a test lets them go."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from deepen_llm import SamplingParams
from deepen_llm.errors import ConfigError, DeepenError, MemberTimeoutError
from tests.test_ensemble import OTHERS, STORY, TEXTS, wait_until_idle

PROMPT, REST = STORY[:4], STORY[4:]
LIST = [STORY[:4], OTHERS[0][:4]]
MESSAGES = [{"role": "user", "content": "hi"}]
SOON = SamplingParams(timeout_s=0.05, max_new_tokens=100, ignore_eos=True)


def read(stream):
    return "".join(chunk.text for chunk in stream)


async def aread(stream):
    return "".join([chunk.text async for chunk in stream])


WAYS = {
    "generate": lambda ensemble, params: ensemble.generate(PROMPT, params).text,
    "generate_list": lambda ensemble, params: [one.text for one in ensemble.generate(LIST, params)],
    "chat": lambda ensemble, params: ensemble.chat(MESSAGES, params).text,
    "stream": lambda ensemble, params: read(ensemble.stream(PROMPT, params)),
    "stream_chat": lambda ensemble, params: read(ensemble.stream_chat(MESSAGES, params)),
}
ASYNC_WAYS = {
    "agenerate": lambda ensemble, params: ensemble.agenerate(PROMPT, params),
    "agenerate_list": lambda ensemble, params: ensemble.agenerate(LIST, params),
    "achat": lambda ensemble, params: ensemble.achat(MESSAGES, params),
    "astream": lambda ensemble, params: aread(ensemble.astream(PROMPT, params)),
    "astream_chat": lambda ensemble, params: aread(ensemble.astream_chat(MESSAGES, params)),
}


@pytest.fixture
def ensemble(make_ensemble):
    return make_ensemble(TEXTS)


@pytest.fixture
def hanging(ensemble):
    """An ensemble whose second member hangs in its third pass, until the test ends or `release` is set."""
    ensemble_passes, release = [], threading.Event()

    def hang(tokens):
        ensemble_passes.append(tokens)
        if len(ensemble_passes) == 3:
            release.wait(20)

    ensemble.members[1].before_pass = hang
    yield ensemble, release
    release.set()


@pytest.mark.parametrize("way", WAYS)
def test_a_member_that_hangs_holds_nobody_up(hanging, way):
    ensemble, release = hanging
    begin = time.monotonic()
    with pytest.raises(MemberTimeoutError, match=r"within its timeout of 0\.05 s; .*: raise the timeout, or ask"):
        WAYS[way](ensemble, SOON)
    assert time.monotonic() - begin < 5
    release.set()
    wait_until_idle(ensemble)


@pytest.mark.parametrize("way", ASYNC_WAYS)
async def test_a_member_that_hangs_holds_no_event_loop_up(hanging, way):
    ensemble, release = hanging
    begin = time.monotonic()
    with pytest.raises(MemberTimeoutError, match=r"within its timeout of 0\.05 s; .*: raise the timeout, or ask"):
        await ASYNC_WAYS[way](ensemble, SOON)
    assert time.monotonic() - begin < 5
    release.set()
    await asyncio.to_thread(wait_until_idle, ensemble)


@pytest.mark.parametrize("way", [*WAYS, *ASYNC_WAYS])
async def test_an_answer_that_takes_too_long_frees_the_engine(ensemble, way):
    ensemble.members[0].before_pass = lambda tokens: time.sleep(0.02)
    with pytest.raises(MemberTimeoutError) as caught:
        await (WAYS | ASYNC_WAYS)[way](ensemble, SOON)
    assert isinstance(caught.value, TimeoutError) and isinstance(caught.value, DeepenError)
    await asyncio.to_thread(wait_until_idle, ensemble)


@pytest.mark.parametrize("way", [*WAYS, *ASYNC_WAYS])
async def test_an_answer_in_time_is_as_without_a_limit(ensemble, way):
    async def ask(params):
        return WAYS[way](ensemble, params) if way in WAYS else await ASYNC_WAYS[way](ensemble, params)

    params = SamplingParams(max_new_tokens=12, logprobs=1, trace=True)
    assert await ask(params.replace(timeout_s=60)) == await ask(params)
    assert await ask(params.replace(timeout_s=1e30)) == await ask(params)


def test_pieces_come_until_the_time_is_over(hanging):
    stream, pieces = hanging[0].stream(PROMPT, SOON.replace(timeout_s=0.5)), []
    with pytest.raises(MemberTimeoutError):
        pieces.extend(chunk.text for chunk in stream)
    assert pieces and REST.startswith("".join(pieces))
    assert next(stream, None) is None
    assert list(stream) == []


def test_a_stream_that_is_read_slowly_is_whole_once_the_engine_is_done(ensemble):
    stream = ensemble.stream(PROMPT, SamplingParams(timeout_s=2.0))
    first = next(stream)
    wait_until_idle(ensemble)
    time.sleep(2.0)
    assert first.text + read(stream) == REST


async def test_an_async_stream_that_is_read_slowly_is_whole_once_the_engine_is_done(ensemble):
    stream = ensemble.astream(PROMPT, SamplingParams(timeout_s=2.0))
    first = await anext(stream)
    time.sleep(2.1)  # in the loop's own thread: nothing that the engine made has arrived yet
    assert first.text + await aread(stream) == REST


async def test_an_answer_that_came_in_time_counts_though_the_loop_was_busy(ensemble):
    task = asyncio.create_task(ensemble.agenerate(LIST, SamplingParams(timeout_s=1.0)))
    await asyncio.sleep(0)
    time.sleep(1.1)
    assert [one.text for one in await task] == [REST, OTHERS[0][4:]]


async def test_the_clock_cancels_nothing_that_the_reader_does(ensemble):
    stream = ensemble.astream(PROMPT, SamplingParams(timeout_s=0.5))
    await anext(stream)
    await asyncio.sleep(0.6)
    assert await aread(stream)


@pytest.mark.parametrize("method", ["stream", "astream"])
async def test_a_stream_that_is_held_and_not_read_works_no_longer_than_its_time(ensemble, method):
    ensemble.members[0].before_pass = lambda tokens: time.sleep(0.01)
    stream = getattr(ensemble, method)(PROMPT, SOON.replace(timeout_s=0.2))
    await asyncio.to_thread(wait_until_idle, ensemble)
    with pytest.raises(MemberTimeoutError, match=r"its timeout of 0\.2 s"):
        assert await aread(stream) if method == "astream" else read(stream)


def test_one_request_that_is_late_leaves_the_others(ensemble):
    ensemble.members[0].before_pass = lambda tokens: time.sleep(0.005)
    other = ensemble.stream(PROMPT)
    with pytest.raises(MemberTimeoutError):
        ensemble.generate(PROMPT, SOON)
    assert read(other) == REST


def test_time_in_the_queue_counts(make_ensemble):
    ensemble = make_ensemble(TEXTS, max_batch_size=1)
    release = threading.Event()
    ensemble.members[0].before_pass = lambda tokens: release.wait(20)
    first = ensemble.stream(PROMPT)
    with pytest.raises(MemberTimeoutError):
        ensemble.generate(OTHERS[0][:4], SOON)
    release.set()
    assert read(first) == REST
    wait_until_idle(ensemble)


async def test_a_timeout_of_the_caller_stays_his_own(hanging):
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.05):
            await hanging[0].agenerate(PROMPT, SOON.replace(timeout_s=60))
    assert not isinstance(caught.value, DeepenError)


@pytest.mark.parametrize("way", ["generate", "stream"])
def test_a_timeout_error_of_the_work_itself_is_not_taken_for_the_limit(ensemble, way):
    def fail(tokens):
        raise TimeoutError("its own")

    ensemble.members[0].before_pass = fail
    with pytest.raises(DeepenError, match="'bpe' failed in a forward pass: TimeoutError: its own"):
        WAYS[way](ensemble, SamplingParams(timeout_s=60))


@pytest.mark.parametrize("timeout_s", [0, -1, float("inf"), float("nan"), "1", True])
def test_a_limit_that_is_none_is_refused(timeout_s):
    with pytest.raises(ConfigError, match=r"SamplingParams\.timeout_s: .* got"):
        SamplingParams(timeout_s=timeout_s)


def test_the_limit_is_no_part_of_what_identifies_an_answer():
    assert SamplingParams(timeout_s=3).model_dump() == SamplingParams().model_dump()
    assert SamplingParams(timeout_s=3).replace(seed=1).timeout_s == 3


def test_a_member_that_hangs_does_not_hold_up_closing(hanging, monkeypatch, caplog):
    ensemble, _ = hanging
    monkeypatch.setattr("deepen_llm.decoding.engine.CLOSE_S", 0.2)
    with pytest.raises(MemberTimeoutError):
        ensemble.generate(PROMPT, SOON.replace(timeout_s=1))
    begin = time.monotonic()
    ensemble.close()
    assert time.monotonic() - begin < 5
    assert ensemble.is_closed and "still in a forward pass" in caplog.text
    assert not any(member.is_closed for member in ensemble.members)  # its thread still uses them
