"""What the answers of all endpoints are made of: who answered, log-probabilities, usage, what the members did."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, final
from uuid import uuid4

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletionTokenLogprob
from openai.types.chat.chat_completion_token_logprob import TopLogprob
from openai.types.completion_usage import PromptTokensDetails
from pydantic import BaseModel, TypeAdapter

from deepen_llm.results import Candidate, Chunk, Generation, StepTrace, TokenLogprob, Usage
from deepen_llm.vocabulary import Vocabulary

LEAST_LOGPROB = -9999.0
"""Stands for the logarithm of 0, which JSON does not know."""
_STEPS = TypeAdapter(tuple[StepTrace, ...])


@final
@dataclass(frozen=True, slots=True)
class Origin:
    """Who gives an answer, to whom."""

    model: str
    """The name that was asked for."""
    vocabulary: Vocabulary
    """The main model's, whose tokens the answer is made of."""
    member_names: Sequence[str]
    id: str
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def make(cls, model: str, vocabulary: Vocabulary, member_names: Sequence[str], prefix: str) -> Origin:
        """One with an id of its own."""
        return cls(model, vocabulary, member_names, f"{prefix}-{uuid4().hex}")


def write(answer: BaseModel) -> str:
    """An answer as JSON: what was set of it, and nothing else."""
    return answer.model_dump_json(exclude_unset=True, warnings=False)


def tell_usage(usages: Sequence[Usage]) -> CompletionUsage:
    """The sum of several."""
    prompt = sum(usage.prompt_tokens for usage in usages)
    completion = sum(usage.completion_tokens for usage in usages)
    return CompletionUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=sum(usage.cached_tokens for usage in usages)),
    )


def tell_stream_usage(last: Sequence[Chunk], num_each: int) -> CompletionUsage:
    """That of streams, of each of which the last piece is given; the prompt of `num_each` of them counts once."""
    usages = [chunk.usage for chunk in last if chunk.usage is not None]
    return tell_usage(
        [Usage(0, usage.completion_tokens) if place % num_each else usage for place, usage in enumerate(usages)]
    )


def tell_members(answer: Generation | Chunk, member_names: Sequence[str]) -> dict[str, Any]:
    """What only this library tells, for the field `deepen`; empty for a piece of a stream with nothing to tell.

    `share_fused` is the share of steps in which all members had a say, `weights` are theirs as they were last.
    """
    told: dict[str, Any] = {}
    if answer.trace:
        told["trace"] = _STEPS.dump_python(answer.trace, mode="json")
    if answer.finish_reason and answer.fusion is not None:
        told["share_fused"] = answer.fusion.share_fused
        told["weights"] = dict(zip(member_names, answer.fusion.weights, strict=False))
        told["is_shortened"] = answer.is_shortened
    return told


def tell_chat_logprobs(logprobs: Sequence[TokenLogprob], vocabulary: Vocabulary) -> list[ChatCompletionTokenLogprob]:
    """The tokens' log-probabilities as chats have them."""
    return [
        ChatCompletionTokenLogprob(
            token=one.text,
            bytes=_bytes(one.token_id, vocabulary),
            logprob=finite(one.logprob),
            top_logprobs=[
                TopLogprob(token=other.text, bytes=_bytes(other.token_id, vocabulary), logprob=logprob_of(other))
                for other in one.top
            ],
        )
        for one in logprobs
    ]


def logprob_of(candidate: Candidate) -> float:
    """An alternative's log-probability."""
    return math.log(candidate.prob) if candidate.prob > 0 else LEAST_LOGPROB


def finite(logprob: float) -> float:
    """The log-probability as a number that JSON can write."""
    return max(logprob, LEAST_LOGPROB)


def _bytes(token_id: int, vocabulary: Vocabulary) -> list[int] | None:
    token = vocabulary.tokens[token_id]
    return None if token is None else list(token)
