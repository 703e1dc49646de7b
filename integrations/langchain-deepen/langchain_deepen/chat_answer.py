"""An answer of the ensemble as a LangChain message, whole or piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from langchain_core.messages import AIMessage, AIMessageChunk, ToolCallChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from deepen_llm.results import Chunk, Generation
from langchain_deepen.chat_request import ChatRequest
from langchain_deepen.generation_info import finish_info, token_info, usage_metadata
from langchain_deepen.tool_calls import call_chunks, last_chunks, message_parts


@final
class ChatAnswer:
    """Makes messages of one answer, whose calls, if it may hold any, it reads on the way."""

    def __init__(self, request: ChatRequest, model_name: str, member_names: Sequence[str]) -> None:
        self._model_name = model_name
        self._member_names = member_names
        self._request = request
        self._max_tokens = request.params.max_new_tokens
        self._reader = request.reader()

    def whole(self, answer: Generation) -> ChatResult:
        """The answer as one message, and each of its alternatives as another."""
        return ChatResult(generations=[self._generation(one) for one in answer.answers])

    def _generation(self, answer: Generation) -> ChatGeneration:
        """One answer alone, with calls of its own."""
        self._reader = self._request.reader()
        text, parts = answer.text, {}
        if self._reader is not None:
            text, _ = self._reader.push(text, is_last=True)
            parts = message_parts(self._reader.calls, self._max_tokens)
        info = {**token_info(answer), **finish_info(answer, self._member_names, self._finish_reason)}
        message = AIMessage(
            content=text,
            response_metadata={**self._origin, **info},
            usage_metadata=usage_metadata(answer.usage),
            **parts,
        )
        return ChatGeneration(message=message, generation_info=info)

    def pieces(self, piece: Chunk) -> list[ChatGenerationChunk]:
        """One piece of a stream; none where all of it is held back, as the beginning of a call or of a stop string.

        The last one alone says how the answer ended, who gave it and what it took. It has no part of a call: LangChain
        takes a last piece for a whole message, and would lose that part from its events.
        """
        is_last = piece.finish_reason is not None
        text, calls = self._read(piece, is_last=is_last)
        info = {**token_info(piece), **finish_info(piece, self._member_names, self._finish_reason)}
        if is_last:
            last = AIMessageChunk(
                content=text,
                response_metadata=self._origin,
                usage_metadata=usage_metadata(piece.usage) if piece.usage else None,
                chunk_position="last",
            )
            return [*_calls_alone(calls), ChatGenerationChunk(message=last, generation_info=info)]
        if not (text or calls or info):
            return []
        message = AIMessageChunk(content=text, tool_call_chunks=calls)
        return [ChatGenerationChunk(message=message, generation_info=info or None)]

    def _read(self, piece: Chunk, *, is_last: bool) -> tuple[str, list[ToolCallChunk]]:
        """The text of a piece, and the pieces of calls in it."""
        if self._reader is None:
            return piece.text, []
        text, pieces = self._reader.push(piece.text, is_last=is_last)
        if not is_last:
            return text, call_chunks(pieces)
        return text, last_chunks(pieces, self._reader.calls, self._max_tokens)

    @property
    def _origin(self) -> dict[str, Any]:
        return {"model_name": self._model_name, "model_provider": "deepen"}

    @property
    def _finish_reason(self) -> str | None:
        """The finish reason in place of the engine's, which knows nothing of calls; None leaves the engine's."""
        if self._reader is None:
            return None
        return "tool_calls" if self._reader.is_whole else "stop" if self._reader.is_stopped else None


def _calls_alone(calls: list[ToolCallChunk]) -> list[ChatGenerationChunk]:
    """A piece of parts of calls, where there are any."""
    return [ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=calls))] if calls else []
