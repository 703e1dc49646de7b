"""LangChain messages as the plain `{"role", "content"}` dictionaries that each member's chat template takes."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage

from deepen_llm.errors import PromptError

_ROLES = ("system", "user", "assistant")


def read_messages(messages: Sequence[BaseMessage]) -> list[dict[str, str]]:
    """The messages as dictionaries, in their order. The optional `name` of a message has no place in them.

    Raises:
        PromptError: A message that is not text from the system, the user or the assistant.
    """
    return [{"role": _role(message, n), "content": _text(message, n)} for n, message in enumerate(messages)]


def _role(message: BaseMessage, position: int) -> str:
    """The role that chat templates know this message by."""
    if isinstance(message, HumanMessage):
        return "user"
    if isinstance(message, SystemMessage):
        return "system"
    if isinstance(message, AIMessage):
        if message.tool_calls or message.invalid_tool_calls:
            raise PromptError(
                f"message {position} ({message.type}) holds tool calls, which the ensemble does not read: leave it out"
            )
        return "assistant"
    if isinstance(message, ChatMessage) and message.role in _ROLES:
        return message.role
    came = f"a message of role {message.role!r}" if isinstance(message, ChatMessage) else type(message).__name__
    raise PromptError(f"message {position} must be from the system, the user or the assistant; got {came}")


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
    raise PromptError(
        f"message {position} ({message.type}) must hold text only; got a block of type {kind!r}: leave it out"
    )
