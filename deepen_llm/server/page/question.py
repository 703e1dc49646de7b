"""What the page asks, and the answer as pieces of markup."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated, Any, Literal, final

from pydantic import BaseModel, ConfigDict, Field

from deepen_llm.config import SamplingParams
from deepen_llm.ensemble import Ensemble
from deepen_llm.errors import ConfigError, DeepenError
from deepen_llm.explain.live import LiveExplanation
from deepen_llm.explain.token import AnswerMarkup
from deepen_llm.requests.streams import AsyncStream
from deepen_llm.results import Chunk
from deepen_llm.server.page.members import list_members
from deepen_llm.server.refusals import explain


@final
class PageMessage(BaseModel):
    """One message of the conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str


@final
class PageQuestion(BaseModel):
    """A conversation to reply to, and how."""

    model_config = ConfigDict(extra="forbid")

    messages: Annotated[list[PageMessage], Field(min_length=1, max_length=10_000)]
    prior: list[float] | None = None
    """See `SamplingParams.prior`; None for the ensemble's own weights."""
    max_tokens: int = Field(default=256, ge=1)
    temperature: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    number: int = Field(default=0, ge=0, lt=2**31)
    """Which of the page's answers it is: its elements' ids tell them apart."""

    def make_params(self, most_tokens: int | None, timeout_s: float) -> SamplingParams:
        """How it is decoded, within the server's limits.

        Raises:
            RefusedError: Weights that are no distribution.
        """
        try:
            return SamplingParams(
                max_new_tokens=min(self.max_tokens, most_tokens or self.max_tokens),
                temperature=self.temperature,
                prior=None if self.prior is None else tuple(self.prior),
                timeout_s=timeout_s,
                trace=True,
            )
        except ConfigError as error:
            raise explain(error, "prior") from error


async def answer_question(
    ensemble: Ensemble, question: PageQuestion, params: SamplingParams, note: Callable[[Chunk], None] | None = None
) -> AsyncGenerator[dict[str, Any]]:
    """The answer as events with a `kind`: "tokens" as they come, and at last the "end", which tells how it ended.

    Closing the generator ends the work in the engine. `note` is told of every piece of the stream.

    Raises:
        RefusedError: What was asked cannot be answered, or a member failed.
    """
    begin = time.perf_counter()
    markup = AnswerMarkup(list_members(ensemble), prefix=f"a{question.number}-")
    live = LiveExplanation(ensemble)
    try:
        async with aclosing(_ask(ensemble, question, params)) as stream:
            async for chunk in stream:
                if note is not None:
                    note(chunk)
                html = "".join(markup.render(token) for token in live.push(chunk))
                yield {"kind": "tokens", "html": html, "text": chunk.text}
                if chunk.finish_reason is not None:
                    yield {"kind": "end", **_describe_end(ensemble, chunk, time.perf_counter() - begin)}
    except DeepenError as error:
        raise explain(error, "messages") from error


def _ask(ensemble: Ensemble, question: PageQuestion, params: SamplingParams) -> AsyncStream:
    """The stream of the answer. Models without a chat template go on with what was asked last."""
    if ensemble.has_chat_template:
        messages = [{"role": one.role, "content": one.content} for one in question.messages]
        return ensemble.astream_chat(messages, params)
    return ensemble.astream(question.messages[-1].content, params)


def _describe_end(ensemble: Ensemble, last: Chunk, seconds: float) -> dict[str, Any]:
    weights = last.fusion.weights if last.fusion is not None else ()
    num_tokens = 0 if last.usage is None else last.usage.completion_tokens
    return {
        "finish_reason": last.finish_reason,
        "weights": dict(zip(ensemble.member_names, weights, strict=False)),
        "share_fused": 0.0 if last.fusion is None else last.fusion.share_fused,
        "num_tokens": num_tokens,
        "seconds": seconds,
    }
