"""Answers as they come: what the engine's thread puts in, a caller in another thread or an event loop takes out.

The engine holds a stream's queue and never the stream itself, so that a stream that nobody holds any more is collected
and ends its work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self, final

from deepen_llm.requests.deadline import Deadline
from deepen_llm.requests.mailbox import Mailbox
from deepen_llm.results import Chunk, Generation


@final
class Stream:
    """An iterator of chunks. Closing it, or letting go of it, ends the work in the engine."""

    def __init__(self, start: Callable[[Callable[[Chunk], None]], Future[Generation]], deadline: Deadline) -> None:
        """Call `start` with the function that takes the chunks; it gives the future of the whole answer."""
        chunks: SimpleQueue[Chunk | None] = SimpleQueue()
        self._chunks, self._deadline = chunks, deadline
        self._future = start(chunks.put)
        self._future.add_done_callback(lambda _: chunks.put(None))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Chunk:
        """Wait for the next chunk; an error of the request is raised as soon as it happens.

        Raises:
            MemberTimeoutError: The deadline is over, and the answer is not whole.
        """
        try:
            chunk = self._chunks.get(timeout=self._deadline.remaining_s)
        except Empty:
            self.close()
            raise self._deadline.error from None
        except BaseException:  # Ctrl-C while waiting
            self.close()
            raise
        if self._future.cancelled():
            self._chunks.put(None)
            raise StopIteration
        if chunk is not None:
            return chunk
        self._chunks.put(None)
        self._future.result()
        raise StopIteration

    def close(self) -> None:
        """End the work in the engine; nothing happens where it is done already."""
        self._future.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_future"):
            self._future.cancel()


@final
class AsyncStream:
    """An asynchronous iterator of chunks for the running event loop. Closing it, or letting go of it, ends the work."""

    def __init__(
        self,
        start: Callable[[Callable[[Chunk], None]], Future[Generation]],
        deadline: Deadline,
        *,
        is_slow: bool = False,
    ) -> None:
        """Call `start` with the function that takes the chunks; it gives the future of the whole answer.

        A slow start runs in another thread, and its error comes with the first chunk asked for.
        """
        loop = asyncio.get_running_loop()
        chunks: asyncio.Queue[Chunk | None] = asyncio.Queue()

        put: Callable[[Chunk | None], None] = partial(Mailbox.of_running_loop().post, loop, chunks)
        self._chunks, self._put, self._deadline = chunks, put, deadline
        self._future: Future[Generation] = Future()
        self._is_closed = False
        if is_slow:
            loop.run_in_executor(None, start, put).add_done_callback(self._note_started)
        else:
            self._follow(start(put))

    def _note_started(self, started: asyncio.Future[Future[Generation]]) -> None:
        """A slow start is done."""
        if started.cancelled():
            return
        if (error := started.exception()) is None:
            self._follow(started.result())
        elif self._future.set_running_or_notify_cancel():
            self._future.set_exception(error)
            self._put(None)

    def _follow(self, future: Future[Generation]) -> None:
        """The answer's own future is there."""
        self._future, put = future, self._put
        if self._is_closed:
            future.cancel()
        future.add_done_callback(lambda _: put(None))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        """Wait for the next chunk; an error of the request is raised as soon as it happens.

        Raises:
            MemberTimeoutError: The deadline is over, and the answer is not whole.
        """
        chunk = await self._wait() if self._chunks.empty() else self._chunks.get_nowait()
        if self._future.cancelled():
            self._chunks.put_nowait(None)
            raise StopAsyncIteration
        if chunk is not None:
            return chunk
        self._chunks.put_nowait(None)
        self._future.result()
        raise StopAsyncIteration

    async def _wait(self) -> Chunk | None:
        """The next chunk, which is not there yet."""
        try:
            # The clock runs while a chunk is waited for, and not while the reader has one: nothing of his is cancelled.
            async with asyncio.timeout(self._deadline.remaining_s):
                return await self._chunks.get()
        except TimeoutError:
            if self._chunks.empty():
                await self.aclose()
                raise self._deadline.error from None
            return self._chunks.get_nowait()  # it came while the loop was busy elsewhere
        except asyncio.CancelledError:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """End the work in the engine; nothing happens where it is done already."""
        self._is_closed = True
        if self._future.cancel():
            self._put(None)

    def __del__(self) -> None:
        if hasattr(self, "_future"):
            self._future.cancel()
