"""Users who ask one request after another, a server or the ensemble itself, and look at the clock."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, final

from deepen_llm.config import SamplingParams
from deepen_llm.ensemble import Ensemble
from deepen_llm.errors import MemberError

if TYPE_CHECKING:
    import httpx

Pieces: TypeAlias = AsyncIterator[int]
"""An answer as it comes: the number of tokens of each piece."""
Ask: TypeAlias = Callable[[str, int], Pieces]
"""Asks for so many tokens after a prompt."""
Door: TypeAlias = Callable[[], AbstractAsyncContextManager[Ask]]
"""What is opened once for all users of a run."""

TIMEOUT_S = 300.0
END_BYTES = 1000
"""The end of a stream that is kept: it holds the usage."""


@final
@dataclass(slots=True)
class Pace:
    """What users saw. Times in seconds."""

    num_tokens: int = 0
    took_s: float = 0.0
    first_s: list[float] = field(default_factory=list)
    """From each request to its first piece."""
    between_s: list[float] = field(default_factory=list)
    """Between tokens: a piece of several shares its time among them."""

    @property
    def token_s(self) -> float:
        """Seconds a token, of all users together."""
        return self.took_s / self.num_tokens


async def use(door: Door, prompts: list[list[str]], num_tokens: int) -> Pace:
    """Have one user for each list ask its prompts, one after the other."""
    pace = Pace()
    async with door() as ask:
        begun_s = time.perf_counter()
        await asyncio.gather(*(_ask_all(ask, own, num_tokens, pace) for own in prompts))
        pace.took_s = time.perf_counter() - begun_s
    return pace


async def _ask_all(ask: Ask, prompts: list[str], num_tokens: int, pace: Pace) -> None:
    for prompt in prompts:
        last_s, has_begun = time.perf_counter(), False
        async for num in ask(prompt, num_tokens):
            now_s = time.perf_counter()
            if has_begun:
                pace.between_s += [(now_s - last_s) / num] * num
            else:
                pace.first_s.append(now_s - last_s)
            last_s, has_begun = now_s, True
            pace.num_tokens += num


@asynccontextmanager
async def at_engine(ensemble: Ensemble, *, streams: bool) -> AsyncIterator[Ask]:
    """The ensemble itself, in this process."""

    async def ask(prompt: str, num_tokens: int) -> Pieces:
        params = SamplingParams(max_new_tokens=num_tokens, ignore_eos=True)
        if not streams:
            yield (await ensemble.agenerate(prompt, params)).usage.completion_tokens
            return
        async for chunk in ensemble.astream(prompt, params):
            if chunk.token_ids:
                yield len(chunk.token_ids)

    yield ask


@asynccontextmanager
async def at_server(address: str, *, streams: bool) -> AsyncIterator[Ask]:
    """A server, by HTTP. Its pieces are looked at as bytes, so that the client takes little of the machine."""
    import httpx

    async with httpx.AsyncClient(base_url=address, timeout=TIMEOUT_S, limits=httpx.Limits()) as client:

        async def ask(prompt: str, num_tokens: int) -> Pieces:
            body = {"prompt": prompt, "max_tokens": num_tokens, "ignore_eos": True, "temperature": 0}
            if not streams:
                answer = await client.post("/v1/completions", json=body)
                yield answer.raise_for_status().json()["usage"]["completion_tokens"]
                return
            async for num in _read(client, {**body, "stream": True}):
                yield num

        yield ask


async def _read(client: httpx.AsyncClient, body: dict[str, Any]) -> Pieces:
    """The tokens of a stream, an event each but for those of the last one, which the usage tells."""
    asked = {**body, "stream_options": {"include_usage": True}}
    num_seen, end = 0, b""
    async with client.stream("POST", "/v1/completions", json=asked) as answer:
        answer.raise_for_status()
        async for data in answer.aiter_raw():
            end = (end + data)[-END_BYTES:]
            if num := data.count(b'"finish_reason":null'):
                num_seen += num
                yield num
    usage = re.search(rb'"completion_tokens":(\d+)', end)
    if usage is None or not end.rstrip().endswith(b"data: [DONE]"):
        raise MemberError(f"a stream must end with its usage; one ended with {end!r}: look at the server's log")
    if int(usage[1]) > num_seen:
        yield int(usage[1]) - num_seen
