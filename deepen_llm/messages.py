"""Chat messages on their way to templates that are strict about roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from deepen_llm.errors import PromptError

Message = Mapping[str, str]


def merge_neighbours(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The messages with neighbours of one role joined by an empty line: many templates insist on alternation.

    Raises:
        PromptError: An empty list, or a message without a role and a text.
    """
    if not messages:
        raise PromptError("the message list is empty: give at least one {'role': 'user', 'content': '...'}")
    for message in messages:
        if not isinstance(message.get("role"), str) or not isinstance(message.get("content"), str):
            raise PromptError(f"a message needs a role and a content, both strings; got {dict(message)!r}")
    return [
        {"role": role, "content": "\n\n".join(message["content"] for message in group)}
        for role, group in groupby(messages, key=lambda message: message["role"])
    ]


def fold_system(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The messages with a leading system message put before the first user message, for templates without that role.

    Messages without a leading system message, or with nobody to tell it to, come back as they are.
    """
    plain = [dict(message) for message in messages]
    if len(plain) < 2 or plain[0]["role"] != "system" or plain[1]["role"] != "user":
        return plain
    return [{"role": "user", "content": f"{plain[0]['content']}\n\n{plain[1]['content']}"}, *plain[2:]]
