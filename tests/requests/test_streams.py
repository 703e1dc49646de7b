"""Answers as they come."""

from __future__ import annotations

import gc
from concurrent.futures import Future

import pytest

from deepen_llm.errors import MemberTimeoutError
from deepen_llm.requests.deadline import Deadline
from deepen_llm.requests.streams import AsyncStream, Stream
from deepen_llm.results import Chunk


class Work:
    """What the engine would do: hold a future, and put chunks in."""

    def __init__(self):
        self.future: Future = Future()

    def __call__(self, put):
        self.put = put
        return self.future

    def finish(self, *texts):
        for text in texts:
            self.put(Chunk(text))
        self.future.set_result("whole")


def test_chunks_come_in_order_and_then_the_end_again_and_again():
    work = Work()
    stream = Stream(work, Deadline(None))
    work.finish("a", "b")
    assert [chunk.text for chunk in stream] == ["a", "b"]
    assert list(stream) == []


def test_an_error_comes_after_what_was_certain_before_it():
    work = Work()
    stream = Stream(work, Deadline(None))
    work.put(Chunk("a"))
    work.future.set_exception(ValueError("no"))
    assert next(stream).text == "a"
    with pytest.raises(ValueError, match="no"):
        next(stream)


def test_the_deadline_ends_the_work():
    work = Work()
    with pytest.raises(MemberTimeoutError):
        next(Stream(work, Deadline(0.01)))
    assert work.future.cancelled()


def test_closing_a_stream_or_letting_go_of_it_ends_the_work():
    closed, dropped = Work(), Work()
    with Stream(closed, Deadline(None)):
        pass
    stream = Stream(dropped, Deadline(None))
    del stream
    gc.collect()
    assert closed.future.cancelled() and dropped.future.cancelled()


async def test_an_event_loop_gets_the_same():
    work = Work()
    stream = AsyncStream(work, Deadline(None))
    work.finish("a", "b")
    assert [chunk.text async for chunk in stream] == ["a", "b"]
    late = Work()
    with pytest.raises(MemberTimeoutError):
        await anext(AsyncStream(late, Deadline(0.01)))
    assert late.future.cancelled()
