"""A request to `/v1/responses`, read as the chat that it is. Nothing is kept between requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from deepen_llm.ensemble import Ensemble
from deepen_llm.errors import quote
from deepen_llm.server.chat_request import ChatPlan, ChatRequest
from deepen_llm.server.refusals import RefusedError
from deepen_llm.server.request_fields import ENGINE_NAMES, RequestFields
from deepen_llm.server.settings import ServerSettings

NAMES = {"max_tokens": "max_output_tokens", "messages": "input", "response_format": "text"}
"""What fields of chats are called here."""


class ResponsesRequest(RequestFields):
    """The body of `/v1/responses`."""

    neutral: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "store": (False,),
        "background": (False,),
        "truncation": ("disabled",),
        "include": ([],),
        "top_logprobs": (0,),
        "reasoning": ({},),
    }
    known: ClassVar[Mapping[str, str]] = {
        "previous_response_id": "it keeps nothing: send the whole conversation as input",
        "conversation": "it keeps nothing: send the whole conversation as input",
    }

    input: str | list[Any]
    """A message of the user, or the items of a conversation."""
    instructions: str | None = None
    """A message of the system that comes first."""
    max_output_tokens: int | None = None
    text: dict[str, Any] | None = None
    """`{"format": ...}`: what the answer looks like."""
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    def plan(self, ensemble: Ensemble, settings: ServerSettings) -> ChatPlan:
        """What to ask of an ensemble: see `ChatRequest.plan`.

        Raises:
            RefusedError: Something that cannot be done; it names the field.
        """
        self.check_fields()
        if (self.n or 1) > 1:
            raise RefusedError("n is 1 here: ask /v1/chat/completions for several answers", param="n")
        with _renaming():
            chat = ChatRequest(
                messages=self._messages(),
                max_tokens=self.max_output_tokens,
                response_format=self._format(),
                tools=None if self.tools is None else [_read_tool(tool) for tool in self.tools],
                tool_choice=self.tool_choice,
                parallel_tool_calls=self.parallel_tool_calls,
                chat_template_kwargs=self.chat_template_kwargs,
                deepen=self.deepen,
                **{name: getattr(self, name) for name in ENGINE_NAMES},
            )
            return chat.plan(ensemble, settings)

    def _messages(self) -> list[Any]:
        system = [] if self.instructions is None else [{"role": "system", "content": self.instructions}]
        if isinstance(self.input, str):
            return [*system, {"role": "user", "content": self.input}]
        return [*system, *(_read_item(item, f"input[{place}]") for place, item in enumerate(self.input))]

    def _format(self) -> dict[str, Any] | None:
        """The form of the answer as chats write it."""
        given = (self.text or {}).get("format")
        if given is not None and not isinstance(given, dict):
            raise RefusedError(f"text.format must be an object with a type; got {quote(given)}", param="text")
        if given and given.get("type") == "json_schema":
            return {"type": "json_schema", "json_schema": {name: given[name] for name in given if name != "type"}}
        return given


def _read_item(item: Any, place: str) -> Any:
    """An item of a conversation as a message of a chat."""
    if not isinstance(item, Mapping):
        raise RefusedError(f"{place} must be a message or an item of a call; got {quote(item)}", param=place)
    kind = item.get("type", "message")
    if kind == "message":
        return item
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind == "function_call_output":
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": item.get("output")}
    raise RefusedError(
        f"{place} must be of type message, function_call or function_call_output; got {quote(kind)}: leave it out",
        param=place,
    )


def _read_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as chats write it."""
    if tool.get("type") != "function":
        raise RefusedError(
            f"tools must be of type function; got {quote(tool.get('type'))}: leave it out", param="tools"
        )
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}


@contextmanager
def _renaming() -> Iterator[None]:
    """Have fields called what they are called here."""
    try:
        yield
    except RefusedError as error:
        field, bracket, rest = (error.param or "").partition("[")
        if field in NAMES:
            error.param = f"{NAMES[field]}{bracket}{rest}"
        raise
