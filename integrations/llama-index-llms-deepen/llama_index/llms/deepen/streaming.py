"""Streams of responses that stop the engine's work as soon as their consumer is gone.

LlamaIndex's callbacks wrap a stream in a generator of their own and hand its exceptions, `GeneratorExit` among them, to
handlers. A handler that keeps them keeps the wrapped generator alive, and with it the work. So the stream that the
caller gets owns both, and closes both.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, TypeVar

from llama_index.core.base.llms.types import ChatResponse

from deepen_llm.results import Chunk, Generation
from llama_index.llms.deepen.calls import ToolAnswer
from llama_index.llms.deepen.errors import in_llama_indexes_terms
from llama_index.llms.deepen.request import Request

if TYPE_CHECKING:
    from deepen_llm import Ensemble

Response = TypeVar("Response")
Build = Callable[[str, Generation | Chunk], Response]
Callback = Callable[[Callable[..., Any]], Callable[..., Any]]


def stream_responses(request: Request, ensemble: Ensemble, build: Build[Response]) -> Generator[Response, None, None]:
    """A response for each piece, with the text so far. The engine starts at the first one asked for."""
    text = ""
    with in_llama_indexes_terms(), closing(request.stream(ensemble)) as stream:
        for chunk in stream:
            text += chunk.text
            yield build(text, chunk)


async def astream_responses(
    request: Request, ensemble: Ensemble, build: Build[Response]
) -> AsyncGenerator[Response, None]:
    """`stream_responses` for an event loop."""
    text = ""
    with in_llama_indexes_terms():
        async with aclosing(request.astream(ensemble)) as stream:
            async for chunk in stream:
                text += chunk.text
                yield build(text, chunk)


def read_tool_answer(
    responses: Generator[ChatResponse, None, None], answer: ToolAnswer
) -> Generator[ChatResponse, None, None]:
    """The responses of an answer that may be calls, as `ToolAnswer.piece` gives them."""
    with closing(responses):
        for response in responses:
            if (read := answer.piece(response)) is not None:
                yield read


async def aread_tool_answer(
    responses: AsyncGenerator[ChatResponse, None], answer: ToolAnswer
) -> AsyncGenerator[ChatResponse, None]:
    """`read_tool_answer` for an event loop."""
    async with aclosing(responses):
        async for response in responses:
            if (read := answer.piece(response)) is not None:
                yield read


def observed_stream(
    callback: Callback,
) -> Callable[[Callable[..., Generator[Response, None, None]]], Callable[..., Generator[Response, None, None]]]:
    """Decorate a method that returns a stream with one of LlamaIndex's callbacks; its consumer owns the stream."""

    def decorate(
        method: Callable[..., Generator[Response, None, None]],
    ) -> Callable[..., Generator[Response, None, None]]:
        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Generator[Response, None, None]:
            sources: list[Generator[Response, None, None]] = []

            def start(*args: Any, **kwargs: Any) -> Generator[Response, None, None]:
                sources.append(method(*args, **kwargs))
                return sources[-1]

            return _owned(callback(start)(*args, **kwargs), *sources)

        return call

    return decorate


def observed_astream(
    callback: Callback,
) -> Callable[
    [Callable[..., Coroutine[Any, Any, AsyncGenerator[Response, None]]]],
    Callable[..., Coroutine[Any, Any, AsyncGenerator[Response, None]]],
]:
    """`observed_stream` for methods that are awaited and give an asynchronous stream."""

    def decorate(
        method: Callable[..., Coroutine[Any, Any, AsyncGenerator[Response, None]]],
    ) -> Callable[..., Coroutine[Any, Any, AsyncGenerator[Response, None]]]:
        @functools.wraps(method)
        async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Response, None]:
            sources: list[AsyncGenerator[Response, None]] = []

            async def start(*args: Any, **kwargs: Any) -> AsyncGenerator[Response, None]:
                sources.append(await method(*args, **kwargs))
                return sources[-1]

            return _aowned(await callback(start)(*args, **kwargs), *sources)

        return call

    return decorate


def _owned(
    observed: Generator[Response, None, None], source: Generator[Response, None, None]
) -> Generator[Response, None, None]:
    """`observed`, which reads `source`; both are closed with it."""
    with closing(source), closing(observed):
        yield from observed


async def _aowned(
    observed: AsyncGenerator[Response, None], source: AsyncGenerator[Response, None]
) -> AsyncGenerator[Response, None]:
    """`_owned` for an event loop."""
    async with aclosing(source), aclosing(observed):
        async for response in observed:
            yield response
