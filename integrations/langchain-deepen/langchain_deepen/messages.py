"""LangChain messages as the plain `{"role", "content"}` dictionaries that each member's chat template takes."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from deepen_llm.errors import PromptError
from deepen_llm.frontends.tools import write_result
from langchain_deepen.tool_calls import write_calls

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
"""The roles of a `ChatMessage`, and how templates know them."""
_CALL_BLOCKS = ("tool_use", "tool_call", "tool_call_chunk", "invalid_tool_call", "function_call")
"""Blocks that say again what a message's `tool_calls` say."""


def read_messages(messages: Sequence[BaseMessage], instructions: str = "") -> list[dict[str, str]]:
    """The messages as dictionaries, in their order. The optional `name` of a message has no place in them.

    Templates know the system, the user and the assistant: an assistant's tool calls become lines of JSON in its text,
    as it writes them, and a tool's result becomes a message of the user that names the tool.

    Args:
        messages: The conversation.
        instructions: What the system says besides, after a system message that comes first.

    Raises:
        PromptError: A message that is not text from the system, the user, the assistant or a tool.
    """
    names = {call["id"]: call["name"] for one in messages if isinstance(one, AIMessage) for call in one.tool_calls}
    read = [{"role": _role(one, n), "content": _content(one, n, names)} for n, one in enumerate(messages)]
    if instructions and read:
        read.insert(1 if read[0]["role"] == "system" else 0, {"role": "system", "content": instructions})
    return read


def _role(message: BaseMessage, position: int) -> str:
    """The role that chat templates know this message by."""
    if isinstance(message, (HumanMessage, ToolMessage, FunctionMessage)):
        return "user"
    if isinstance(message, SystemMessage):
        return "system"
    if isinstance(message, AIMessage):
        return "assistant"
    if isinstance(message, ChatMessage) and message.role in _ROLES:
        return _ROLES[message.role]
    came = f"a message of role {message.role!r}" if isinstance(message, ChatMessage) else type(message).__name__
    raise PromptError(f"message {position} must be from the system, the user, the assistant or a tool; got {came}")


def _content(message: BaseMessage, position: int, names: dict[str | None, str]) -> str:
    """What the message says, in words."""
    text = _text(message, position)
    if isinstance(message, AIMessage):
        return "\n".join([*([text] if text else []), *write_calls(message)])
    if isinstance(message, FunctionMessage):
        return write_result(message.name, text)
    if isinstance(message, ToolMessage):
        name = message.name or names.get(message.tool_call_id)
        return write_result(name, text, is_error=message.status == "error")
    return text


def _text(message: BaseMessage, position: int) -> str:
    """The message's text: a string, or blocks of text joined."""
    if isinstance(message.content, str):
        return message.content
    return "".join(_block_text(block, message, position) for block in message.content)


def _block_text(block: object, message: BaseMessage, position: int) -> str:
    """One block's text."""
    if isinstance(block, str):
        return block
    if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str):
        return str(block["text"])
    kind = block.get("type") if isinstance(block, dict) else type(block).__name__
    if kind in _CALL_BLOCKS and isinstance(message, AIMessage) and (message.tool_calls or message.invalid_tool_calls):
        return ""
    raise PromptError(
        f"message {position} ({message.type}) must hold text only; got a block of type {kind!r}: leave it out"
    )
