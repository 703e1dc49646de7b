"""LlamaIndex's chat messages to the plain messages of an ensemble. Text and tool calls; the rest is refused by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock, ToolCallBlock
from pydantic import ValidationError

from deepen_llm.frontends.tools import write_call, write_result
from llama_index.llms.deepen.errors import PromptRefusedError

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


def reads_messages(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a method of a chat, awaited or not: it and its observers are given messages that can be read."""
    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def acall(self: Any, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
            return await method(self, read_messages(messages), **kwargs)

        return acall

    @functools.wraps(method)
    def call(self: Any, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        return method(self, read_messages(messages), **kwargs)

    return call


def read_messages(messages: Any) -> list[ChatMessage]:
    """The messages, also those that came as `{"role": ..., "content": ...}`.

    Raises:
        PromptRefusedError: There is no message, or something that is none, or a message holds a block that is neither
            text nor a tool call.
    """
    if isinstance(messages, (str, bytes)) or not isinstance(messages, Sequence):
        raise PromptRefusedError(
            f"messages must be a list of ChatMessage; got {type(messages).__name__}: write [ChatMessage(...)]"
        )
    if not messages:
        raise PromptRefusedError("messages must hold at least one message; got an empty list: add a user message")
    read = [_read_message(message, position) for position, message in enumerate(messages)]
    for position, message in enumerate(read):
        for block in message.blocks:
            if not isinstance(block, (TextBlock, ToolCallBlock)):
                raise PromptRefusedError(
                    f"message {position} ({message.role.value}) must hold text only; got a block of type "
                    f"{block.block_type!r}: leave it out, or put what it says into words"
                )
    return read


def _read_message(message: Any, position: int) -> ChatMessage:
    """One message. `ChatMessage` itself would pass over what it does not know, and a content that is no text."""
    if isinstance(message, ChatMessage):
        return message
    if not isinstance(message, Mapping):
        raise PromptRefusedError(
            f"message {position} must be a ChatMessage, or a dictionary with role and content; got "
            f"{type(message).__name__}"
        )
    names = {*message}
    if not ({"role", "content"} <= names <= {"role", "content", "additional_kwargs"}):
        raise PromptRefusedError(
            f"message {position} must have role and content; got {sorted(map(str, names))}: write ChatMessage(...) for "
            "what else a message holds"
        )
    if not isinstance(message["content"], (str, list, type(None))):
        raise PromptRefusedError(
            f"message {position}: content must be a text or a list of blocks; got {type(message['content']).__name__}"
        )
    try:
        return ChatMessage(**message)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise PromptRefusedError(f"message {position}: {where}: {problem['msg']}; got {problem['input']!r}") from error


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
