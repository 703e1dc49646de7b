"""The time that a request may take, over streams that the test drives."""

import asyncio
import time
from concurrent.futures import Future

import pytest

from deepen_llm.errors import MemberTimeoutError
from deepen_llm.results import Chunk, Generation, TokenLogprob, Usage
from deepen_llm.streams import AsyncStream, Stream
from langchain_deepen.deadline import aread, closing_after, join, read, wait_for

LAST = Chunk("", finish_reason="stop", usage=Usage(3, 2))


def start(chunks, *, is_whole=True):
    """A stream's start: it gives the chunks at once, and ends, or not."""
    futures = []

    def run(sink):
        future = Future()
        futures.append(future)
        for chunk in chunks:
            sink(chunk)
        if is_whole:
            future.set_result(None)
        return future

    return run, futures


def test_a_stream_that_is_in_time_is_whole():
    stream = Stream(start([Chunk("a"), Chunk("b"), LAST])[0])
    with closing_after([stream], 5.0):
        assert [chunk.text for chunk in read(stream)] == ["a", "b", ""]


def test_a_stream_that_is_late_is_cancelled_and_says_so():
    run, futures = start([Chunk("a")], is_whole=False)
    begun = time.monotonic()
    stream, pieces = Stream(run), []
    with (
        pytest.raises(MemberTimeoutError, match=r"within timeout=0\.05 s; it was not, .* raise timeout"),
        closing_after([stream], 0.05),
    ):
        pieces.extend(chunk.text for chunk in read(stream))
    assert pieces == ["a"]
    assert futures[0].cancelled()
    assert time.monotonic() - begun < 2


def test_the_error_is_a_timeout_error():
    stream = Stream(start([], is_whole=False)[0])
    with pytest.raises(TimeoutError), closing_after([stream], 0.01):
        list(read(stream))


def test_a_stream_without_a_limit_is_closed_at_the_end():
    run, futures = start([Chunk("a")], is_whole=False)
    stream = Stream(run)
    with closing_after([stream], None):
        assert next(read(stream)).text == "a"
    assert futures[0].cancelled()


def test_a_stream_that_somebody_else_closed_is_no_timeout():
    stream = Stream(start([Chunk("a")], is_whole=False)[0])
    stream.close()
    with pytest.raises(RuntimeError, match="closed before the answer was whole"), closing_after([stream], 5.0):
        list(read(stream))


def test_a_slow_reader_still_gets_what_came_in_time():
    stream = Stream(start([Chunk("a"), LAST])[0])
    with closing_after([stream], 0.02):
        pieces = read(stream)
        assert next(pieces).text == "a"
        time.sleep(0.06)
        assert [chunk.text for chunk in pieces] == [""]


def test_pieces_join_to_the_whole():
    tokens = [TokenLogprob(n, "x", -0.5) for n in range(2)]
    chunks = [Chunk("a", (0,), (tokens[0],)), Chunk("b", (1,), (tokens[1],)), LAST]
    assert join(chunks) == Generation("ab", (0, 1), "stop", Usage(3, 2), tuple(tokens))
    assert join([LAST]).logprobs is None
    with pytest.raises(RuntimeError, match="the last piece of a stream must say how the answer ended"):
        join(chunks[:1])


async def test_waiting_stops_in_time():
    cancelled = asyncio.Event()

    async def work():
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(MemberTimeoutError, match=r"timeout=0\.02 s"):
        await wait_for(work(), 0.02)
    assert cancelled.is_set()
    assert await wait_for(asyncio.sleep(0, "done"), None) == "done"


async def test_a_timeout_of_the_work_itself_is_not_taken_for_ours():
    async def work():
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await wait_for(work(), 5.0)


async def test_an_async_stream_stops_in_time():
    run, futures = start([Chunk("a")], is_whole=False)
    stream = aread(AsyncStream(run), 0.05)
    assert (await anext(stream)).text == "a"
    with pytest.raises(MemberTimeoutError, match=r"timeout=0\.05 s"):
        await anext(stream)
    assert futures[0].cancelled()


async def test_the_limit_never_cancels_what_the_reader_does():
    stream = aread(AsyncStream(start([Chunk("a"), LAST])[0]), 0.02)
    async for _ in stream:
        await asyncio.sleep(0.05)
