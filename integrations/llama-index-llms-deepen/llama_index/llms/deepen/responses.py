"""An ensemble's results as LlamaIndex's responses. `raw` can be written as JSON and holds the usage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, LogProb, MessageRole

from deepen_llm.results import Chunk, Generation, TokenLogprob


def completion_response(text: str, result: Generation | Chunk, member_names: Sequence[str]) -> CompletionResponse:
    """The response whose text so far is `text`, and whose newest piece is `result`."""
    return CompletionResponse(text=text, **_common(result, member_names))


def chat_response(text: str, result: Generation | Chunk, member_names: Sequence[str]) -> ChatResponse:
    """The response whose message so far is `text`, and whose newest piece is `result`."""
    message = ChatMessage(role=MessageRole.ASSISTANT, content=text)
    return ChatResponse(message=message, **_common(result, member_names))


def _common(result: Generation | Chunk, member_names: Sequence[str]) -> dict[str, Any]:
    """What both kinds of response hold beside the text; `delta` in streams only."""
    return {
        "delta": result.text if isinstance(result, Chunk) else None,
        "raw": _raw(result, member_names),
        "logprobs": None if result.logprobs is None else [_logprobs(token) for token in result.logprobs],
    }


def _raw(result: Generation | Chunk, member_names: Sequence[str]) -> dict[str, Any] | None:
    """How the answer came about, which a stream's last piece alone tells, and the trace where it was asked for."""
    raw: dict[str, Any] = {}
    if result.usage is not None:
        raw["model_name"] = "+".join(member_names)
        usage = result.total_usage if isinstance(result, Generation) else result.usage
        raw["usage"] = {**asdict(usage), "total_tokens": usage.total_tokens}
        raw["finish_reason"] = result.finish_reason
        if result.is_shortened:
            raw["is_shortened"] = True
        if result.fusion is not None:
            raw["share_fused"] = result.fusion.share_fused
            if result.fusion.weights:
                raw["weights"] = dict(zip(member_names, result.fusion.weights, strict=True))
    if isinstance(result, Generation) and result.alternatives:
        raw["alternatives"] = [_raw_alternative(one, member_names) for one in result.alternatives]
    if result.trace is not None:
        raw["trace"] = [asdict(step) for step in result.trace]
    return raw or None


def _raw_alternative(result: Generation, member_names: Sequence[str]) -> dict[str, Any]:
    """A further answer to the same prompt."""
    return {"text": result.text, **(_raw(result, member_names) or {})}


def _logprobs(token: TokenLogprob) -> list[LogProb]:
    """The chosen token, then the best alternatives; natural log."""
    chosen = LogProb(token=token.text, logprob=token.logprob)
    others = (candidate for candidate in token.top if candidate.token_id != token.token_id)
    return [chosen, *(LogProb(token=other.text, logprob=_log(other.prob)) for other in others)]


def _log(prob: float) -> float:
    return math.log(prob) if prob > 0 else -math.inf
