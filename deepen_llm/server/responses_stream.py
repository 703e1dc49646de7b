"""A response of `/v1/responses` piece by piece: the events in which OpenAI tells of one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final
from uuid import uuid4

from pydantic import BaseModel

from deepen_llm.frontends.tools import Call, CallPiece
from deepen_llm.results import Chunk
from deepen_llm.server.answer_parts import write
from deepen_llm.server.events import Event
from deepen_llm.server.responses_answer import Item, ResponseAnswer, call_item, message_item, text_part


class ResponseEvent(BaseModel):
    """One event; what it holds beside its type depends on that."""

    model_config = {"extra": "allow"}

    type: str
    sequence_number: int


@final
class ResponseEvents:
    """Makes the events of one response. A message opens with its first text, a call with its name."""

    def __init__(self, answer: ResponseAnswer) -> None:
        self._answer = answer
        self._reader = answer.plan.reader()
        self._number = -1
        self._text = ""
        self._message_id: str | None = None
        self._open: Call | None = None
        self._items: list[Item] = []

    def begin(self) -> Iterator[Event]:
        """That there is a response."""
        begun = self._answer.response("in_progress")
        yield self._event("response.created", response=begun)
        yield self._event("response.in_progress", response=begun)

    def push(self, chunk: Chunk) -> Iterator[Event]:
        """What a piece of the answer comes to; with the last one, how all of it ended."""
        is_last = chunk.finish_reason is not None
        text, pieces = chunk.text, list[CallPiece]()
        if self._reader is not None:
            text, pieces = self._reader.push(chunk.text, is_last=is_last)
        if text:
            yield from self._push_text(text)
        for piece in pieces:
            yield from self._push_call(piece.index, piece.arguments)
        if is_last:
            yield from self._close_call()
            yield from self._close_message()
            ended = self._answer.ended(self._items, chunk)
            yield self._event(f"response.{ended.status}", response=ended)

    def fail(self, message: str, code: str | None) -> Event:
        """That the answer failed on its way."""
        return self._event("error", message=message, code=code, param=None)

    def _push_text(self, text: str) -> Iterator[Event]:
        yield from self._open_message()
        self._text += text
        yield self._of_part("response.output_text.delta", delta=text, logprobs=[])

    def _open_message(self) -> Iterator[Event]:
        if self._message_id is None:
            self._message_id = f"msg_{uuid4().hex}"
            item = message_item(self._message_id, "", "in_progress")
            yield self._event("response.output_item.added", output_index=0, item=item)
            yield self._of_part("response.content_part.added", part=text_part(""))

    def _close_message(self) -> Iterator[Event]:
        """The end of the message; an answer that is no call has one, if an empty one."""
        if self._items:
            return
        yield from self._open_message()
        yield self._of_part("response.output_text.done", text=self._text, logprobs=[])
        yield self._of_part("response.content_part.done", part=text_part(self._text))
        yield from self._add(message_item(self._message_id or "", self._text))

    def _push_call(self, index: int, arguments: str) -> Iterator[Event]:
        call = self._reader.calls[index] if self._reader is not None else Call(index)
        if self._open is not call:
            yield from self._close_call()
            self._open = call
            item = call_item(call, "in_progress")
            yield self._event("response.output_item.added", output_index=len(self._items), item=item)
        if arguments:
            yield self._of_call("response.function_call_arguments.delta", call, delta=arguments)

    def _close_call(self) -> Iterator[Event]:
        if self._open is not None:
            call, self._open = self._open, None
            yield self._of_call(
                "response.function_call_arguments.done", call, arguments=call.arguments, name=call.name or ""
            )
            yield from self._add(call_item(call))

    def _add(self, item: Item) -> Iterator[Event]:
        self._items.append(item)
        yield self._event("response.output_item.done", output_index=len(self._items) - 1, item=item)

    def _of_part(self, kind: str, **details: Any) -> Event:
        return self._event(kind, item_id=self._message_id, output_index=0, content_index=0, **details)

    def _of_call(self, kind: str, call: Call, **details: Any) -> Event:
        return self._event(kind, item_id=f"fc_{call.id}", output_index=len(self._items), **details)

    def _event(self, kind: str, **details: Any) -> Event:
        self._number += 1
        values = {
            name: value.model_dump(exclude_unset=True, warnings=False) if isinstance(value, BaseModel) else value
            for name, value in details.items()
        }
        return Event(write(ResponseEvent(type=kind, sequence_number=self._number, **values)), kind)
