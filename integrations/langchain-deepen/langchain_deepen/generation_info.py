"""What goes with an answer's text: finish reason, usage, log-probabilities and trace, as plain JSON values.

LangChain merges these dictionaries over the pieces of a stream: strings are joined, differing integers summed, lists
joined. So the finish reason and the usage appear on the last piece alone, and whatever belongs to tokens is a list.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.messages.ai import UsageMetadata
from pydantic import TypeAdapter

from deepen_llm.results import Chunk, Generation, StepTrace, TokenLogprob, Usage

_STEPS = TypeAdapter(tuple[StepTrace, ...])
_LEAST_LOGPROB = -9999.0
"""Stands for the logarithm of 0, which JSON does not know."""


def token_info(answer: Generation | Chunk) -> dict[str, Any]:
    """What belongs to the tokens: `logprobs` and `trace`, where they were asked for."""
    info: dict[str, Any] = {}
    if answer.logprobs:
        info["logprobs"] = {"content": [_logprob(token) for token in answer.logprobs]}
    if answer.trace:
        info["trace"] = _STEPS.dump_python(answer.trace, mode="json")
    return info


def finish_info(
    answer: Generation | Chunk, member_names: Sequence[str], finish_reason: str | None = None
) -> dict[str, Any]:
    """What belongs to the whole answer; empty for a piece that is not the last.

    `finish_reason`, the engine's or the one given, `share_fused`, the share of steps in which every member had a say,
    `weights`, the members' by name as they were last, and `is_shortened` where a structured answer was closed because
    its tokens ran out.
    """
    if not answer.finish_reason:
        return {}
    shared: dict[str, Any] = {"share_fused": answer.fusion.share_fused} if answer.fusion else {}
    if answer.fusion and answer.fusion.weights:
        shared["weights"] = dict(zip(member_names, answer.fusion.weights, strict=True))
    shortened = {"is_shortened": True} if answer.is_shortened else {}
    return {"finish_reason": finish_reason or answer.finish_reason, **shared, **shortened}


def usage_info(answer: Generation | Chunk) -> dict[str, Any]:
    """The answer's `token_usage`; empty for a piece that is not the last."""
    return {"token_usage": token_usage([answer.usage])} if answer.usage else {}


def token_usage(usages: Iterable[Usage]) -> dict[str, int]:
    """The sum of the usages, in the names that LangChain's LLMs use."""
    usages = list(usages)
    return {
        "prompt_tokens": sum(usage.prompt_tokens for usage in usages),
        "completion_tokens": sum(usage.completion_tokens for usage in usages),
        "total_tokens": sum(usage.total_tokens for usage in usages),
    }


def usage_metadata(usage: Usage) -> UsageMetadata:
    """The usage in the names that LangChain's messages use."""
    return UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
    )


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    """One token's natural-log probability, with those of the alternatives, in the shape of LangChain's other models."""
    top = [
        {
            "token": other.text,
            "token_id": other.token_id,
            "logprob": math.log(other.prob) if other.prob > 0 else _LEAST_LOGPROB,
        }
        for other in token.top
    ]
    return {"token": token.text, "token_id": token.token_id, "logprob": token.logprob, "top_logprobs": top}
