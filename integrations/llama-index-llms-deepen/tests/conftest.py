"""An ensemble without models: it answers with pieces given to it, and counts what runs and what was cancelled."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from deepen_llm import Chunk, Ensemble, Generation, SamplingParams, Usage
from deepen_llm.results import FinishReason, FusionReport
from llama_index.llms.deepen import DeepenLLM

FUSION = FusionReport(8, 6, num_extra_rows=0, num_extra_passes=0, truncated_mass=0.0, weights=(0.25, 0.75))


class FakeStream:
    """An iterator of chunks, for loops of both kinds."""

    def __init__(self, ensemble: FakeEnsemble, chunks: list[Chunk]) -> None:
        self._ensemble = ensemble
        self._chunks = iter(chunks)
        self._is_open = True
        ensemble.num_running += 1

    def __iter__(self) -> FakeStream:
        return self

    def __next__(self) -> Chunk:
        time.sleep(self._ensemble.delay_s)
        return self._next()

    def __aiter__(self) -> FakeStream:
        return self

    async def __anext__(self) -> Chunk:
        await asyncio.sleep(self._ensemble.delay_s)
        try:
            return self._next()
        except StopIteration:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """What an ensemble does with a stream that is not finished: cancel it."""
        if self._is_open:
            self._ensemble.num_cancelled += 1
        self._finish()

    async def aclose(self) -> None:
        self.close()

    def _next(self) -> Chunk:
        chunk = next(self._chunks, None) if self._is_open else None
        if chunk is None:
            self._finish()
            raise StopIteration
        if self._ensemble.error is not None and chunk.text == self._ensemble.error_at:
            self._finish()
            raise self._ensemble.error
        return chunk

    def _finish(self) -> None:
        self._ensemble.num_running -= self._is_open
        self._is_open = False


class FakeVocabulary:
    """A token a byte; a chat has three more for each message and one for its beginning."""

    prefix_ids = (0,)

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_chat(self, messages: list[dict[str, str]], **_: Any) -> SimpleNamespace:
        return SimpleNamespace(ids=(0, *(byte for m in messages for byte in b"<->" + m["content"].encode())))


class FakeEnsemble:
    """The part of `Ensemble` that DeepenLLM uses."""

    member_names = ("alpha", "beta")
    main_name = "alpha"
    has_chat_template = True

    def __init__(self, context_length: int = 512) -> None:
        self.members = [SimpleNamespace(vocabulary=FakeVocabulary(), context_length=context_length, source_reader=None)]
        self.pieces = ["Paris", " is", " it."]
        self.answers: list[str] = []
        """What the next calls are answered with, instead of the pieces."""
        self.finish_reason: FinishReason = "stop"
        self.chunks: list[Chunk] | None = None
        self.delay_s = 0.0
        self.error: Exception | None = None
        self.error_at = " is"
        self.calls: list[tuple[str, Any, SamplingParams]] = []
        self.num_running = 0
        self.num_cancelled = 0
        self.is_closed = False

    @property
    def context_length(self) -> int:
        return self.members[0].context_length

    @context_length.setter
    def context_length(self, context_length: int) -> None:
        self.members[0].context_length = context_length

    def generate(self, prompt: str, params: SamplingParams) -> Generation:
        return self._whole("generate", prompt, params)

    def chat(self, messages: list[dict[str, str]], params: SamplingParams, **options: Any) -> Generation:
        self.chat_options = options
        return self._whole("chat", messages, params)

    async def agenerate(self, prompt: str, params: SamplingParams) -> Generation:
        return await self._awhole("agenerate", prompt, params)

    async def achat(self, messages: list[dict[str, str]], params: SamplingParams, **options: Any) -> Generation:
        self.chat_options = options
        return await self._awhole("achat", messages, params)

    def stream(self, prompt: str, params: SamplingParams) -> FakeStream:
        return self._stream("stream", prompt, params)

    def stream_chat(self, messages: list[dict[str, str]], params: SamplingParams, **options: Any) -> FakeStream:
        self.chat_options = options
        return self._stream("stream_chat", messages, params)

    def astream(self, prompt: str, params: SamplingParams) -> FakeStream:
        return self._stream("astream", prompt, params)

    def astream_chat(self, messages: list[dict[str, str]], params: SamplingParams, **options: Any) -> FakeStream:
        self.chat_options = options
        return self._stream("astream_chat", messages, params)

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def close(self) -> None:
        self.is_closed = True

    def _whole(self, method: str, content: Any, params: SamplingParams) -> Generation:
        self.calls.append((method, content, params))
        if self.error is not None:
            raise self.error
        text = "".join(self._next_pieces())
        answer = Generation(text, (1, 2, 3), self.finish_reason, Usage(11, 7), fusion=FUSION)
        return Generation.join([answer] * params.n)

    async def _awhole(self, method: str, content: Any, params: SamplingParams) -> Generation:
        self.num_running += 1
        try:
            await asyncio.sleep(self.delay_s)
            return self._whole(method, content, params)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        finally:
            self.num_running -= 1

    def _stream(self, method: str, content: Any, params: SamplingParams) -> FakeStream:
        self.calls.append((method, content, params))
        last = Chunk("", finish_reason=self.finish_reason, usage=Usage(11, 7), fusion=FUSION)
        return FakeStream(self, self.chunks or [*(Chunk(piece, (1,)) for piece in self._next_pieces()), last])

    def _next_pieces(self) -> list[str]:
        if not self.answers:
            return self.pieces
        answer = self.answers.pop(0)
        return [answer[start : start + 6] for start in range(0, len(answer), 6)]


@pytest.fixture
def ensemble() -> FakeEnsemble:
    return FakeEnsemble()


@pytest.fixture(scope="session")
def starter() -> Iterator[Ensemble]:
    """The bundled models, loaded once."""
    with Ensemble.starter() as ensemble:
        yield ensemble


@pytest.fixture
def llm(ensemble: FakeEnsemble) -> DeepenLLM:
    return DeepenLLM(ensemble=ensemble)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may connect to anything."""

    def refuse(self: socket.socket, address: object) -> None:
        raise AssertionError(f"a test wanted to connect to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
