"""Chat messages on their way to templates that are strict about roles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from deepen_llm.requests.deadline import Deadline
from deepen_llm.vocabulary import EncodedText, Vocabulary
from deepen_llm.vocabulary.chat import Message, check_messages
from deepen_llm.vocabulary.chat_renderer import ChatRefusedError

SAME_ROLES = {"developer": "system"}
"""Names that a role has elsewhere, by which templates do not know it."""


def merge_neighbours(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The messages with neighbours of one role joined by an empty line: many templates insist on alternation.

    A developer's message is a system message.

    Raises:
        PromptError: Messages that are not roles and texts.
    """
    check_messages(messages)
    named = ((SAME_ROLES.get(message["role"], message["role"]), message["content"]) for message in messages)
    return [
        {"role": role, "content": "\n\n".join(content for _, content in group)}
        for role, group in groupby(named, key=lambda message: message[0])
    ]


def fold_system(messages: Sequence[Message], *, first: int = 0) -> list[dict[str, str]]:
    """The messages with system messages told by the user, from message `first` on: for templates without that role.

    So a leading one comes before the first user message, and another one where it stood.
    """
    told = [
        {**message, "role": "user"} if index >= first and message["role"] == "system" else message
        for index, message in enumerate(messages)
    ]
    return merge_neighbours(told)


def encode_chat(
    vocabulary: Vocabulary,
    messages: Sequence[Message],
    *,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    deadline: Deadline | None = None,
) -> EncodedText:
    """The messages in a member's template: neighbours joined, and no system message where the template takes none.

    A last message of the assistant is gone on with.

    Args:
        vocabulary: The member's.
        messages: Roles and texts.
        chat_template_kwargs: Further variables that the template sees, such as `enable_thinking`.
        deadline: When it must be done.

    Raises:
        PromptError: Messages that are not roles and texts, no template, or one that takes them in no form.
        ConfigError: Variables that no template can get.
        MemberTimeoutError: The deadline was over.
    """
    refusal: ChatRefusedError | None = None
    for form in _forms(merge_neighbours(messages)):
        try:
            return vocabulary.encode_chat(
                form,
                chat_template_kwargs=chat_template_kwargs,
                timeout_s=None if deadline is None else deadline.remaining_s,
            )
        except ChatRefusedError as error:
            refusal = refusal or error
    if refusal is None:
        raise RuntimeError("messages have at least one form")
    raise refusal


def _forms(messages: list[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    """The messages as they are; with a system message at most at the beginning; with none. Each form once."""
    yield messages
    later, none = fold_system(messages, first=1), fold_system(messages)
    if later != messages:
        yield later
    if none not in (messages, later):
        yield none
