"""Answers of the ensemble as `/v1/responses` gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, final
from uuid import uuid4

from openai.types.responses import (
    Response,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseUsage,
)
from openai.types.responses.response import IncompleteDetails
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails

from deepen_llm.frontends.tools import Call
from deepen_llm.results import Chunk, Generation, Usage
from deepen_llm.server.answer_parts import Origin, tell_members
from deepen_llm.server.chat_request import ChatPlan
from deepen_llm.server.responses_request import ResponsesRequest

Item = ResponseOutputMessage | ResponseFunctionToolCall
Status = Literal["completed", "incomplete", "in_progress"]


@final
class ResponseAnswer:
    """Makes one response: whole, or as far as it has come."""

    def __init__(self, asked: ResponsesRequest, plan: ChatPlan, origin: Origin) -> None:
        self.plan = plan
        self._asked, self._origin = asked, origin

    def whole(self, answer: Generation) -> Response:
        """The response to an answer."""
        reader = self.plan.reader()
        text, calls = answer.text, list[Call]()
        if reader is not None:
            text, _ = reader.push(answer.text, is_last=True)
            calls = reader.calls
        return self.ended(self.items(text, calls), answer)

    def items(self, text: str, calls: Sequence[Call]) -> list[Item]:
        """The calls of an answer that holds some, else a message of its text."""
        return [call_item(call) for call in calls] or [message_item(f"msg_{uuid4().hex}", text)]

    def ended(self, items: Sequence[Item], answer: Generation | Chunk) -> Response:
        """The response once the answer has ended: itself, or the last piece of it."""
        is_cut = answer.finish_reason == "length"
        return self.response(
            "incomplete" if is_cut else "completed",
            items,
            incomplete_details=IncompleteDetails(reason="max_output_tokens") if is_cut else None,
            usage=None if answer.usage is None else _tell_usage(answer.usage),
            deepen=tell_members(answer, self._origin.member_names),
        )

    def response(self, status: Status, items: Sequence[Item] = (), **details: Any) -> Response:
        """The response as it stands, with what was asked for."""
        asked, origin = self._asked, self._origin
        # As they came: what OpenAI's classes would make of them is more than was asked for.
        given: dict[str, Any] = {
            "text": asked.text or {"format": {"type": "text"}},
            "tool_choice": asked.tool_choice or "auto",
            "tools": asked.tools or [],
        }
        return Response.model_construct(
            id=origin.id,
            object="response",
            created_at=float(origin.created),
            model=origin.model,
            status=status,
            error=None,
            instructions=asked.instructions,
            max_output_tokens=asked.max_output_tokens,
            metadata=(asked.model_extra or {}).get("metadata") or {},
            output=list(items),
            parallel_tool_calls=bool(asked.parallel_tool_calls),
            store=False,
            temperature=self.plan.params.temperature,
            top_p=self.plan.params.top_p,
            truncation="disabled",
            **given,
            **details,
        )


def message_item(item_id: str, text: str, status: Status = "completed") -> ResponseOutputMessage:
    """A message; one that has just begun has no content."""
    content = [] if status == "in_progress" else [text_part(text)]
    return ResponseOutputMessage(id=item_id, type="message", role="assistant", status=status, content=content)


def text_part(text: str) -> ResponseOutputText:
    """The one part of a message."""
    return ResponseOutputText(type="output_text", text=text, annotations=[])


def call_item(call: Call, status: Status = "completed") -> ResponseFunctionToolCall:
    """A call; one that was cut is incomplete."""
    return ResponseFunctionToolCall(
        id=f"fc_{call.id}",
        type="function_call",
        call_id=call.id,
        name=call.name or "",
        arguments="" if status == "in_progress" else call.arguments,
        status=status if call.is_whole or status == "in_progress" else "incomplete",
    )


def _tell_usage(usage: Usage) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputTokensDetails(cached_tokens=usage.cached_tokens, cache_write_tokens=0),
        output_tokens=usage.completion_tokens,
        output_tokens_details=OutputTokensDetails(reasoning_tokens=0),
        total_tokens=usage.total_tokens,
    )
