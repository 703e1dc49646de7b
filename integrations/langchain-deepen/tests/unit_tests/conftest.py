"""A fake ensemble: the public face of `deepen_llm.Ensemble` without models, and a callback handler that writes down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler

from deepen_llm.config import SamplingParams
from deepen_llm.errors import MemberError, PromptError
from deepen_llm.results import (
    Candidate,
    Chunk,
    FusionReport,
    Generation,
    MemberTrace,
    StepTrace,
    TokenLogprob,
    Usage,
)


def answer_in_words(prompt: str) -> list[str]:
    """The fake's answer to any prompt: five tokens, one a word."""
    return ["The", " answer", " is", f" {len(prompt)}", "."]


class FakeStream:
    """Pieces of one answer, sync or async, that tells the ensemble when it is closed early."""

    def __init__(self, ensemble: FakeEnsemble, chunks: list[Chunk]) -> None:
        self.ensemble, self.chunks, self.position, self.is_open = ensemble, chunks, 0, True
        ensemble.num_running += 1

    def next_chunk(self) -> Chunk | None:
        if self.position == self.ensemble.fails_after:
            self.end()
            raise MemberError("member 'b' failed at step 2: out of order")
        if self.position == len(self.chunks):
            self.end()
            return None
        self.position += 1
        return self.chunks[self.position - 1]

    def end(self) -> None:
        if self.is_open:
            self.is_open = False
            self.ensemble.num_running -= 1

    def close(self) -> None:
        self.ensemble.num_cancelled += self.is_open
        self.end()

    async def aclose(self) -> None:
        self.close()

    def __enter__(self) -> FakeStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        chunk = self.next_chunk()
        if chunk is None:
            raise StopIteration
        return chunk

    def __aiter__(self) -> FakeStream:
        return self

    async def __anext__(self) -> Chunk:
        try:
            await asyncio.sleep(self.ensemble.delay_s)
        except asyncio.CancelledError:
            self.close()
            raise
        chunk = self.next_chunk()
        if chunk is None:
            raise StopAsyncIteration
        return chunk


class FakeVocabulary:
    """A token a byte, and one before a prompt; a chat has three more for each message."""

    prefix_ids = (0,)

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def encode_chat(self, messages: Sequence[Mapping[str, str]], **_: Any) -> SimpleNamespace:
        return SimpleNamespace(ids=(0, *(byte for m in messages for byte in b"<->" + m["content"].encode())))


class FakeEnsemble:
    """Answers every prompt with five words, or with `words`, and counts what is asked of it."""

    def __init__(self, name: str = "a", *, delay_s: float = 0.0, fails_after: int | None = None) -> None:
        self.identity: dict[str, Any] = {"members": [name, "b"], "weights": [0.5, 0.5]}
        self.member_names = (name, "b")
        self.members = [SimpleNamespace(vocabulary=FakeVocabulary(), context_length=512, source_reader=None)]
        self.config = SimpleNamespace(max_batch_size=8)
        self.calls: list[tuple[str, Any, SamplingParams]] = []
        self.delay_s, self.fails_after = delay_s, fails_after
        self.words: list[str] | None = None
        self.fusion: FusionReport | None = None
        self.num_running = self.num_cancelled = 0
        self.is_closed = False

    @property
    def params(self) -> SamplingParams:
        """The parameters of the latest call."""
        return self.calls[-1][2]

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def generate(self, prompt: str | Sequence[str], params: SamplingParams) -> Any:
        self.calls.append(("generate", prompt, params))
        return self.answer(prompt, params) if isinstance(prompt, str) else [self.answer(p, params) for p in prompt]

    async def agenerate(self, prompt: str | Sequence[str], params: SamplingParams) -> Any:
        self.calls.append(("agenerate", prompt, params))
        await self.work()
        return self.answer(prompt, params) if isinstance(prompt, str) else [self.answer(p, params) for p in prompt]

    def stream(self, prompt: str, params: SamplingParams) -> FakeStream:
        self.calls.append(("stream", prompt, params))
        return FakeStream(self, self.pieces(prompt, params))

    def astream(self, prompt: str, params: SamplingParams) -> FakeStream:
        self.calls.append(("astream", prompt, params))
        return FakeStream(self, self.pieces(prompt, params))

    def chat(self, messages: Sequence[Mapping[str, str]], params: SamplingParams, **options: Any) -> Generation:
        self.chat_options = options
        self.calls.append(("chat", list(messages), params))
        return self.answer(messages[-1]["content"], params)

    async def achat(self, messages: Sequence[Mapping[str, str]], params: SamplingParams, **options: Any) -> Generation:
        self.chat_options = options
        self.calls.append(("achat", list(messages), params))
        await self.work()
        return self.answer(messages[-1]["content"], params)

    def stream_chat(self, messages: Sequence[Mapping[str, str]], params: SamplingParams, **options: Any) -> FakeStream:
        self.chat_options = options
        self.calls.append(("stream_chat", list(messages), params))
        return FakeStream(self, self.pieces(messages[-1]["content"], params))

    def astream_chat(self, messages: Sequence[Mapping[str, str]], params: SamplingParams, **options: Any) -> FakeStream:
        self.chat_options = options
        self.calls.append(("astream_chat", list(messages), params))
        return FakeStream(self, self.pieces(messages[-1]["content"], params))

    async def work(self) -> None:
        """Take as long as five tokens do; count a cancellation."""
        self.num_running += 1
        try:
            await asyncio.sleep(5 * self.delay_s)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        finally:
            self.num_running -= 1

    def pieces(self, prompt: str, params: SamplingParams) -> list[Chunk]:
        """The answer as chunks of one word, and a last one without text."""
        if "too long" in prompt:
            raise PromptError("the prompt has 999 tokens; member 'b' takes 512: shorten it")
        words = (self.words or answer_in_words(prompt))[: params.max_new_tokens]
        kept, is_stopped = cut(words, params.stop)
        chunks = [Chunk(word, (n,), *details(n, word, params)) for n, word in enumerate(kept)]
        is_whole = is_stopped or len(words) < params.max_new_tokens
        usage = Usage(prompt_tokens=len(prompt), completion_tokens=len(words))
        return [*chunks, Chunk("", finish_reason="stop" if is_whole else "length", usage=usage, fusion=self.fusion)]

    def answer(self, prompt: str, params: SamplingParams) -> Generation:
        """The same answer as a whole, `n` times."""
        return Generation.join([self._one_answer(prompt, one) for one in params.split()])

    def _one_answer(self, prompt: str, params: SamplingParams) -> Generation:
        *chunks, last = self.pieces(prompt, params)
        return Generation(
            text="".join(chunk.text for chunk in chunks),
            token_ids=tuple(token for chunk in chunks for token in chunk.token_ids),
            finish_reason=last.finish_reason,
            usage=last.usage,
            fusion=last.fusion,
            logprobs=tuple(x for chunk in chunks for x in chunk.logprobs) if params.logprobs is not None else None,
            trace=tuple(x for chunk in chunks for x in chunk.trace) if params.trace else None,
        )


def cut(words: list[str], stops: Sequence[str]) -> tuple[list[str], bool]:
    """The words before the first stop string (which the fake finds inside single words only)."""
    for n, word in enumerate(words):
        if any(stop in word for stop in stops):
            return words[:n], True
    return words, False


def details(n: int, word: str, params: SamplingParams) -> tuple[Any, Any]:
    """The log-probabilities and the trace of one token, where asked for."""
    top = (Candidate(n, word, 0.5),)
    logprobs = (TokenLogprob(n, word, -0.5, top[: params.logprobs]),) if params.logprobs is not None else None
    trace = (StepTrace(n, n, word, (MemberTrace("a", top),), top, ("b",)),) if params.trace else None
    return logprobs, trace


class Recorder(BaseCallbackHandler):
    """Writes down what the callbacks receive."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.chunks: list[Any] = []
        self.tokens_by_run: dict[Any, list[str]] = {}
        self.starts: list[dict[str, Any]] = []
        self.results: list[Any] = []
        self.errors: list[BaseException] = []

    def on_llm_start(self, serialized: Any, prompts: Any, **kwargs: Any) -> None:
        self.starts.append(kwargs)

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        self.starts.append(kwargs)

    def on_llm_new_token(self, token: str, *, chunk: Any = None, run_id: Any, **kwargs: Any) -> None:
        self.tokens.append(token)
        self.chunks.append(chunk)
        self.tokens_by_run.setdefault(run_id, []).append(token)

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        self.results.append(response)

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        self.errors.append(error)


@pytest.fixture
def ensemble() -> FakeEnsemble:
    return FakeEnsemble()


@pytest.fixture
def make_ensemble() -> Callable[..., FakeEnsemble]:
    return FakeEnsemble


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
