"""Answers as they come, as server-sent events."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import NamedTuple, final

from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.types import Receive, Scope, Send

from deepen_llm.requests.streams import AsyncStream
from deepen_llm.results import Chunk
from deepen_llm.server.refusals import RefusedError, naming

logger = logging.getLogger(__name__)

PING_S = 15
"""How often a comment is sent where nothing else is, so that nobody between takes the connection for dead."""


class Event(NamedTuple):
    """One event: its data, and its name where it has one."""

    data: str
    name: str | None = None


DONE = Event("[DONE]")
"""Ends a stream, as OpenAI does it."""


@final
class Events(EventSourceResponse):
    """A response of events. However it ends, the source of the events is closed."""

    def __init__(self, source: AsyncGenerator[Event], first: Event, *, send_timeout_s: float, drain_s: float) -> None:
        """Take the events.

        Args:
            source: The events from the second on.
            first: The first one.
            send_timeout_s: How long a reader may take nothing.
            drain_s: How long the stream may go on once the server is asked to stop.
        """
        super().__init__(
            _events(source, first), sep="\n", ping=PING_S, send_timeout=send_timeout_s, shutdown_grace_period=drain_s
        )
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            logger.warning("a stream was cut off: its reader took nothing for %g s", self.send_timeout)
        finally:
            await self._source.aclose()


async def _events(source: AsyncGenerator[Event], first: Event) -> AsyncIterator[bytes]:
    """The events; an error on the way is the last but one, for the status has been sent."""
    yield _encode(first)
    try:
        async for event in source:
            yield _encode(event)
    except RefusedError as error:
        yield _encode(Event(json.dumps(error.body)))
        yield _encode(DONE)


def _encode(event: Event) -> bytes:
    """The event as it is sent; its data is JSON, and so has no line breaks of its own."""
    name = "" if event.name is None else f"event: {event.name}\n"
    return f"{name}data: {event.data}\n\n".encode()


async def merge(streams: Sequence[Callable[[], AsyncStream]], param: str) -> AsyncGenerator[tuple[int, Chunk]]:
    """The chunks of several streams as they come, each with its stream's place. Closing it closes them all.

    Raises:
        RefusedError: One of them failed, of which `param` is to blame where the request is; the others are ended.
    """
    chunks = _read_alone(streams[0]) if len(streams) == 1 else _read_all(streams)
    with naming(param):
        async with aclosing(chunks):
            async for place, chunk in chunks:
                yield place, chunk


async def _read_alone(start: Callable[[], AsyncStream]) -> AsyncGenerator[tuple[int, Chunk]]:
    """One stream, which needs no queue beside its own."""
    stream = start()
    try:
        async for chunk in stream:
            yield 0, chunk
    finally:
        await stream.aclose()


async def _read_all(starts: Sequence[Callable[[], AsyncStream]]) -> AsyncGenerator[tuple[int, Chunk]]:
    """Several streams side by side, each read by a task of its own."""
    queue: asyncio.Queue[tuple[int, Chunk] | Exception | None] = asyncio.Queue()
    opened: list[AsyncStream] = []
    readers: list[asyncio.Task[None]] = []
    try:
        for place, start in enumerate(starts):
            opened.append(start())
            readers.append(asyncio.create_task(_read(opened[-1], place, queue)))
        num_open = len(opened)
        while num_open:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                num_open -= 1
            else:
                yield item
    finally:
        for reader in readers:
            reader.cancel()
        for stream in opened:
            await stream.aclose()


async def _read(stream: AsyncStream, place: int, queue: asyncio.Queue[tuple[int, Chunk] | Exception | None]) -> None:
    """Put what comes of a stream into the queue, and at its end None or its error."""
    try:
        async for chunk in stream:
            queue.put_nowait((place, chunk))
    except Exception as error:
        queue.put_nowait(error)
    else:
        queue.put_nowait(None)
