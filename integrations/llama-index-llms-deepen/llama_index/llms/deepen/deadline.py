"""The time that an answer may take: when it is over, the work in the engine ends and the caller is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Generator, Iterable
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, TypeVar

from deepen_llm.errors import ClosedError, MemberTimeoutError
from deepen_llm.results import Chunk, Generation

if TYPE_CHECKING:
    from deepen_llm.streams import AsyncStream, Stream

Result = TypeVar("Result")


def read_in_time(stream: Stream, timeout_s: float | None) -> Generator[Chunk, None, None]:
    """The chunks of a stream, which is closed at the end, whatever ends it.

    Raises:
        MemberTimeoutError: The time was over before the answer was whole.
    """
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        stream.close()  # wakes the reader, who may wait for a chunk

    timer = threading.Timer(timeout_s or 0.0, end)
    timer.daemon = True
    if timeout_s is not None:
        timer.start()
    is_whole = False
    try:
        with closing(stream):
            for chunk in stream:
                is_whole = chunk.finish_reason is not None
                yield chunk
    finally:
        timer.cancel()
    if is_over.is_set() and not is_whole:
        raise _too_late(timeout_s)


async def aread_in_time(stream: AsyncStream, timeout_s: float | None) -> AsyncGenerator[Chunk, None]:
    """`read_in_time` for an event loop."""
    end_s = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
    async with aclosing(stream):
        while (chunk := await _next_until(stream, end_s, timeout_s)) is not None:
            yield chunk


async def wait_in_time(answer: Awaitable[Result], timeout_s: float | None) -> Result:
    """The answer, whose work ends when the time is over.

    Raises:
        MemberTimeoutError: The time was over.
    """
    try:
        async with asyncio.timeout(timeout_s) as limit:
            return await answer
    except TimeoutError:
        if limit.expired():
            raise _too_late(timeout_s) from None
        raise


def join(chunks: Iterable[Chunk]) -> Generation:
    """The pieces of a stream, all of them, as a whole answer.

    Raises:
        ClosedError: The last piece is missing, because the stream was closed.
    """
    pieces = list(chunks)
    last = pieces[-1] if pieces else Chunk("")
    if last.finish_reason is None or last.usage is None:
        raise ClosedError("the stream was closed before the answer was whole: ask again")
    logprobs = tuple(token for piece in pieces for token in piece.logprobs or ())
    trace = tuple(step for piece in pieces for step in piece.trace or ())
    return Generation(
        text="".join(piece.text for piece in pieces),
        token_ids=tuple(token_id for piece in pieces for token_id in piece.token_ids),
        finish_reason=last.finish_reason,
        usage=last.usage,
        logprobs=logprobs if any(piece.logprobs is not None for piece in pieces) else None,
        trace=trace if any(piece.trace is not None for piece in pieces) else None,
        fusion=last.fusion,
    )


async def _next_until(stream: AsyncStream, end_s: float | None, timeout_s: float | None) -> Chunk | None:
    """The next chunk; None at the end. The clock stands while the consumer has a chunk: nothing of his is cancelled."""
    try:
        async with asyncio.timeout_at(end_s) as limit:
            return await anext(stream, None)
    except TimeoutError:
        if limit.expired():
            raise _too_late(timeout_s) from None
        raise


def _too_late(timeout_s: float | None) -> MemberTimeoutError:
    return MemberTimeoutError(
        f"the answer must be whole within timeout={timeout_s} s; it was not, and its work was ended: "
        "raise timeout or lower max_tokens"
    )
