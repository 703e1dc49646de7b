"""Answers of the ensemble as replies to messages, whole or piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, cast, final

from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage
from openai.types.chat.chat_completion import Choice, ChoiceLogprobs
from openai.types.chat.chat_completion_chunk import Choice as ChunkChoice
from openai.types.chat.chat_completion_chunk import ChoiceDelta, ChoiceDeltaToolCall, ChoiceDeltaToolCallFunction
from openai.types.chat.chat_completion_chunk import ChoiceLogprobs as ChunkLogprobs
from openai.types.chat.chat_completion_message_function_tool_call import (
    ChatCompletionMessageFunctionToolCall,
    Function,
)

from deepen_llm.frontends.tools import CallPiece, CallReader
from deepen_llm.results import Chunk, Generation
from deepen_llm.server.answer_parts import Origin, tell_chat_logprobs, tell_members, tell_usage
from deepen_llm.server.chat_request import ChatPlan

FinishReason = Literal["stop", "length", "tool_calls"]


def whole_chat(answer: Generation, plan: ChatPlan, origin: Origin) -> ChatCompletion:
    """The answer and its alternatives as one response."""
    return ChatCompletion(
        id=origin.id,
        object="chat.completion",
        created=origin.created,
        model=origin.model,
        choices=[_choice(one, index, plan, origin) for index, one in enumerate(answer.answers)],
        usage=tell_usage([answer.total_usage]),
    )


def _choice(answer: Generation, index: int, plan: ChatPlan, origin: Origin) -> Choice:
    reader = plan.reader()
    text, calls = answer.text, {}
    if reader is not None:
        text, _ = reader.push(answer.text, is_last=True)
        calls = {"tool_calls": _whole_calls(reader)} if reader.calls else {}
    message = ChatCompletionMessage(role="assistant", content=None if calls else text, refusal=None, **calls)
    logprobs = None
    if answer.logprobs is not None:
        logprobs = ChoiceLogprobs(content=tell_chat_logprobs(answer.logprobs, origin.vocabulary), refusal=None)
    return Choice(
        index=index,
        message=message,
        logprobs=logprobs,
        finish_reason=_finish_reason(answer, reader),
        **_extension(answer, origin),
    )


def _whole_calls(reader: CallReader) -> list[ChatCompletionMessageFunctionToolCall]:
    """The calls of an answer; one that was cut is among them as far as it came: the finish reason is "length"."""
    return [
        ChatCompletionMessageFunctionToolCall(
            id=call.id, type="function", function=Function(name=call.name or "", arguments=call.arguments)
        )
        for call in reader.calls
    ]


def _finish_reason(answer: Generation | Chunk, reader: CallReader | None) -> FinishReason:
    if reader is not None and reader.is_whole:
        return "tool_calls"
    is_stopped = reader is not None and reader.is_stopped
    return "stop" if is_stopped else cast(FinishReason, answer.finish_reason)


def _extension(answer: Generation | Chunk, origin: Origin) -> dict[str, Any]:
    told = tell_members(answer, origin.member_names)
    return {"deepen": told} if told else {}


@final
class ChatPieces:
    """Makes the pieces of one choice of a stream."""

    def __init__(self, plan: ChatPlan, origin: Origin, index: int) -> None:
        """`index` is the choice's."""
        self._reader = plan.reader()
        self._origin, self._index = origin, index
        self._has_begun = False

    def push(self, chunk: Chunk) -> Iterator[ChatCompletionChunk]:
        """What the piece of an answer comes to; the last one says in a piece of its own how the answer ended."""
        is_last = chunk.finish_reason is not None
        text, calls = chunk.text, list[CallPiece]()
        if self._reader is not None:
            text, calls = self._reader.push(chunk.text, is_last=is_last)
        if not self._has_begun:
            self._has_begun = True
            yield self._piece(ChoiceDelta(role="assistant", content=""))
        if text or chunk.logprobs:
            yield self._piece(ChoiceDelta(content=text), **self._details(chunk))
        if calls:
            yield self._piece(ChoiceDelta(tool_calls=[_call_piece(call) for call in calls]))
        if is_last:
            end = _finish_reason(chunk, self._reader)
            yield self._piece(ChoiceDelta(), finish_reason=end, **_extension(chunk, self._origin))
        elif chunk.trace:
            yield self._piece(ChoiceDelta(), **_extension(chunk, self._origin))

    def _details(self, chunk: Chunk) -> dict[str, Any]:
        if chunk.logprobs is None:
            return {}
        return {"logprobs": ChunkLogprobs(content=tell_chat_logprobs(chunk.logprobs, self._origin.vocabulary))}

    def _piece(self, delta: ChoiceDelta, **details: Any) -> ChatCompletionChunk:
        choice = ChunkChoice(index=self._index, delta=delta, **{"finish_reason": None, **details})
        return _chunk(self._origin, [choice])


def usage_piece(usage: CompletionUsage, origin: Origin) -> ChatCompletionChunk:
    """The piece behind the last one, with the usage of all choices."""
    return _chunk(origin, [], usage=usage)


def _chunk(origin: Origin, choices: list[ChunkChoice], **details: Any) -> ChatCompletionChunk:
    return ChatCompletionChunk(
        id=origin.id,
        object="chat.completion.chunk",
        created=origin.created,
        model=origin.model,
        choices=choices,
        **details,
    )


def _call_piece(piece: CallPiece) -> ChoiceDeltaToolCall:
    function = ChoiceDeltaToolCallFunction(arguments=piece.arguments)
    if piece.id is None:
        return ChoiceDeltaToolCall(index=piece.index, function=function)
    function = ChoiceDeltaToolCallFunction(name=piece.name or "", arguments=piece.arguments)
    return ChoiceDeltaToolCall(index=piece.index, id=piece.id, type="function", function=function)
