"""LlamaIndex's chat messages to the plain messages of an ensemble. Text only; anything else is refused by name."""

from __future__ import annotations

from collections.abc import Sequence

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock

from deepen_llm.errors import PromptError

_ROLES = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
}


def check_text_only(messages: Sequence[ChatMessage]) -> None:
    """Refuse what an ensemble of text models cannot read.

    Raises:
        PromptError: There is no message, or a message holds a block that is not text.
    """
    if not messages:
        raise PromptError("a chat needs at least one message; got an empty list: add a user message")
    for position, message in enumerate(messages):
        for block in message.blocks:
            if not isinstance(block, TextBlock):
                raise PromptError(
                    f"messages must be text; message {position} ({message.role.value}) holds a {type(block).__name__}: "
                    "take it out, or put what it says into words"
                )


def to_plain(messages: Sequence[ChatMessage]) -> list[dict[str, str]]:
    """`{"role": "system" | "user" | "assistant", "content": ...}` for each message; several text blocks are lines.

    Raises:
        PromptError: A role that chat templates do not know, such as "tool".
    """
    return [{"role": _role(message), "content": message.content or ""} for message in messages]


def _role(message: ChatMessage) -> str:
    if message.role not in _ROLES:
        raise PromptError(
            f"messages must be of a system, user or assistant; got role {message.role.value!r}: "
            "send its text as a user message"
        )
    return _ROLES[message.role]
