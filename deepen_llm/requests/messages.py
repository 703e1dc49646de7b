"""Chat messages on their way to templates that are strict about roles."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from deepen_llm.errors import PromptError
from deepen_llm.vocabulary import EncodedText, Vocabulary
from deepen_llm.vocabulary.chat import Message, check_messages


def merge_neighbours(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The messages with neighbours of one role joined by an empty line: many templates insist on alternation.

    Raises:
        PromptError: Messages that are not roles and texts.
    """
    check_messages(messages)
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


def encode_chat(vocabulary: Vocabulary, messages: Sequence[Message]) -> EncodedText:
    """The messages in a member's template, neighbours joined, without the system role where the template refuses it.

    Raises:
        PromptError: Messages that are not roles and texts, no template, or one that refuses them.
    """
    merged = merge_neighbours(messages)
    folded = fold_system(merged)
    if folded == merged:
        return vocabulary.encode_chat(merged)
    try:
        return vocabulary.encode_chat(merged)
    except PromptError:
        return vocabulary.encode_chat(folded)
