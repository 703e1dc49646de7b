"""LlamaIndex's chat messages to the plain messages of an ensemble. Text and tool calls; the rest is refused by name."""

from __future__ import annotations

from collections.abc import Sequence

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock, ToolCallBlock

from deepen_llm.errors import PromptError
from deepen_llm.frontends.tools import write_call, write_result

_ROLES = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.TOOL: "user",
    MessageRole.FUNCTION: "user",
}
_RESULTS = (MessageRole.TOOL, MessageRole.FUNCTION)


def check_text_only(messages: Sequence[ChatMessage]) -> None:
    """Refuse what an ensemble of text models cannot read.

    Raises:
        PromptError: There is no message, or a message holds a block that is neither text nor a tool call.
    """
    if not messages:
        raise PromptError("a chat needs at least one message; got an empty list: add a user message")
    for position, message in enumerate(messages):
        for block in message.blocks:
            if not isinstance(block, (TextBlock, ToolCallBlock)):
                raise PromptError(
                    f"message {position} ({message.role.value}) must hold text only; got a block of type "
                    f"{block.block_type!r}: leave it out, or put what it says into words"
                )


def to_plain(messages: Sequence[ChatMessage]) -> list[dict[str, str]]:
    """`{"role": "system" | "user" | "assistant", "content": ...}` for each message; several blocks are lines.

    Calls are written as the models write them. Results of tools come from the user, since many chat templates know no
    role for them, and name their tool.
    """
    names = {
        block.tool_call_id: block.tool_name
        for message in messages
        for block in message.blocks
        if isinstance(block, ToolCallBlock)
    }
    return [{"role": _ROLES[message.role], "content": _text(message, names)} for message in messages]


def with_system(messages: Sequence[ChatMessage], words: str) -> list[ChatMessage]:
    """The messages, with `words` in a system message at their beginning."""
    if messages and messages[0].role in (MessageRole.SYSTEM, MessageRole.DEVELOPER):
        return [_added(messages[0], words), *messages[1:]]
    return [ChatMessage(role=MessageRole.SYSTEM, content=words), *messages]


def with_request(messages: Sequence[ChatMessage], words: str) -> list[ChatMessage]:
    """The messages, with `words` at the end of the last one, or behind it where it is not the user's."""
    if messages and messages[-1].role == MessageRole.USER:
        return [*messages[:-1], _added(messages[-1], words)]
    return [*messages, ChatMessage(role=MessageRole.USER, content=words)]


def _added(message: ChatMessage, words: str) -> ChatMessage:
    return message.model_copy(update={"blocks": [*message.blocks, TextBlock(text=words)]})


def _text(message: ChatMessage, names: dict[str | None, str]) -> str:
    """The message's blocks, a line each but those without text."""
    parts = [
        write_call(block.tool_name, block.tool_kwargs) if isinstance(block, ToolCallBlock) else block.text
        for block in message.blocks
        if isinstance(block, (TextBlock, ToolCallBlock))
    ]
    text = "\n".join(filter(None, parts))
    if message.role in _RESULTS:
        return write_result(names.get(message.additional_kwargs.get("tool_call_id")), text)
    return text
