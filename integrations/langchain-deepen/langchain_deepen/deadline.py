"""The time that a request may take: when it is over, the work in the engine is cancelled and the caller is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, TypeVar

from deepen_llm.errors import MemberTimeoutError
from deepen_llm.results import Chunk, Generation

if TYPE_CHECKING:
    from deepen_llm.streams import AsyncStream, Stream

Result = TypeVar("Result")


@contextmanager
def closing_after(streams: Sequence[Stream], timeout_s: float | None) -> Iterator[None]:
    """Close the streams at the end of the block, or when the time is over.

    Raises:
        MemberTimeoutError: The time was over before the streams were.
    """
    is_over = threading.Event()

    def close() -> None:
        for stream in streams:
            stream.close()

    def close_in_time() -> None:
        is_over.set()
        close()

    timer = threading.Timer(timeout_s or 0.0, close_in_time)
    timer.daemon = True
    if timeout_s is not None:
        timer.start()
    try:
        yield
    except _UnfinishedError:
        if is_over.is_set():
            raise _too_late(timeout_s) from None
        raise
    finally:
        timer.cancel()
        close()


def read(stream: Stream) -> Iterator[Chunk]:
    """The chunks of a stream, to be read inside `closing_after`, which learns from it that a stream was cut short."""
    is_whole = False
    for chunk in stream:
        is_whole = chunk.finish_reason is not None
        yield chunk
    if not is_whole:
        raise _UnfinishedError("the stream was closed before the answer was whole")


def join(chunks: Sequence[Chunk]) -> Generation:
    """The pieces of one stream, the last one included, as a whole answer."""
    last = chunks[-1]
    if last.finish_reason is None or last.usage is None:
        raise _UnfinishedError("the last piece of a stream must say how the answer ended")
    logprobs = [token for chunk in chunks for token in chunk.logprobs or ()]
    trace = [step for chunk in chunks for step in chunk.trace or ()]
    return Generation(
        text="".join(chunk.text for chunk in chunks),
        token_ids=tuple(token_id for chunk in chunks for token_id in chunk.token_ids),
        finish_reason=last.finish_reason,
        usage=last.usage,
        logprobs=tuple(logprobs) if any(chunk.logprobs is not None for chunk in chunks) else None,
        trace=tuple(trace) if any(chunk.trace is not None for chunk in chunks) else None,
        fusion=last.fusion,
    )


async def wait_for(answer: Awaitable[Result], timeout_s: float | None) -> Result:
    """The answer, cancelled when the time is over.

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


async def aread(stream: AsyncStream, timeout_s: float | None) -> AsyncGenerator[Chunk, None]:
    """The chunks of a stream, closed when the time is over, and in any case at the end.

    Raises:
        MemberTimeoutError: The time was over before the stream was.
    """
    end_s = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
    async with aclosing(stream):
        while True:
            try:
                # Not around the whole loop: what the consumer does between two pieces must not be cancelled.
                async with asyncio.timeout_at(end_s) as limit:
                    chunk = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if limit.expired():
                    raise _too_late(timeout_s) from None
                raise
            yield chunk


class _UnfinishedError(RuntimeError):
    """A stream ended without its last chunk, because it was closed."""


def _too_late(timeout_s: float | None) -> MemberTimeoutError:
    return MemberTimeoutError(
        f"the answer must be whole within timeout={timeout_s} s; it was not, and its work was stopped: raise timeout, "
        "or lower max_tokens"
    )
