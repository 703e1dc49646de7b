"""Tool calls as LlamaIndex's responses hold them, from the text of an answer."""

from __future__ import annotations

import json
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock, ToolCallBlock
from llama_index.core.llms.llm import ToolSelection

from deepen_llm.errors import ConfigError
from deepen_llm.tools import CallReader, explain_cut, is_call


def as_calls(response: ChatResponse, max_tokens: int) -> ChatResponse:
    """The response with its calls as blocks, and no text, where its text is calls; else as it is.

    Args:
        response: A whole answer.
        max_tokens: The limit that it had, for the message of the error.

    Raises:
        ConfigError: The last call is not whole, since the answer was cut.
    """
    text = response.message.content or ""
    if not is_call(text):
        return response
    reader = CallReader()
    reader.push(text, is_last=True)
    if not reader.is_whole:
        raise ConfigError(f"a tool call must be whole; got {text!r}: {explain_cut('the call', max_tokens)}")
    blocks = [
        ToolCallBlock(tool_call_id=call.id, tool_name=call.name or "", tool_kwargs=call.values) for call in reader.calls
    ]
    # The list tells LlamaIndex's programs that there are calls; what they are is read from the blocks.
    listed = [{"id": call.id, "name": call.name, "arguments": call.values} for call in reader.calls]
    message = ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs={"tool_calls": listed})
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
