"""Tool calls as models write them, a line each: `{"name": "add", "arguments": {"a": 1, "b": 2}}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.llms.llm import ToolSelection

from deepen_llm.errors import ConfigError


def write_call(name: str, arguments: Mapping[str, Any] | str) -> str:
    """One call as models read and write it."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, default=str)
    return f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {text}}}'


def is_call(text: str) -> bool:
    """Whether an answer that tools were offered for is calls: a text may not begin with a brace."""
    return text.startswith("{")


def read_calls(text: str, max_tokens: int) -> list[ToolCallBlock]:
    """The calls of a whole answer, each with an id of its own.

    Args:
        text: What the models wrote.
        max_tokens: The limit that the answer had, for the message of the error.

    Raises:
        ConfigError: The last call is not whole, since the answer was cut.
    """
    try:
        calls = [json.loads(line) for line in text.split("\n")]
    except ValueError as error:
        raise ConfigError(
            f"a tool call must be whole, and did not fit into max_tokens={max_tokens} (finish_reason 'length'); got "
            f"{text!r}: raise max_tokens"
        ) from error
    return [
        ToolCallBlock(tool_call_id=f"call_{uuid4().hex}", tool_name=call["name"], tool_kwargs=call["arguments"])
        for call in calls
    ]


def as_calls(response: ChatResponse, max_tokens: int) -> ChatResponse:
    """The response with its calls as blocks, and no text, where its text is calls; else as it is."""
    text = response.message.content or ""
    if not is_call(text):
        return response
    calls = read_calls(text, max_tokens)
    # The list tells LlamaIndex's programs that there are calls; what they are is read from the blocks.
    listed = [{"id": call.tool_call_id, "name": call.tool_name, "arguments": call.tool_kwargs} for call in calls]
    message = ChatMessage(role=MessageRole.ASSISTANT, blocks=calls, additional_kwargs={"tool_calls": listed})
    return response.model_copy(update={"message": message, "delta": None if response.delta is None else ""})


def selections(response: ChatResponse) -> list[ToolSelection]:
    """The tools that a response selects, in its order, with their arguments."""
    return [
        ToolSelection(tool_id=block.tool_call_id or "", tool_name=block.tool_name, tool_kwargs=_arguments(block))
        for block in response.message.blocks
        if isinstance(block, ToolCallBlock)
    ]


def text_of(response: ChatResponse) -> str:
    """What a response says in words."""
    return "\n".join(block.text for block in response.message.blocks if isinstance(block, TextBlock))


def _arguments(block: ToolCallBlock) -> dict[str, Any]:
    return dict(json.loads(block.tool_kwargs)) if isinstance(block.tool_kwargs, str) else block.tool_kwargs
