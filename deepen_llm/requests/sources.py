"""A request in every member's tokens: those that continue the prompt, and those whose encoders read a part of it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from deepen_llm.errors import ConfigError, quote
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.members.source import SourceReader
from deepen_llm.requests.deadline import Deadline
from deepen_llm.requests.prompt_size import check_size, check_time
from deepen_llm.vocabulary import EncodedText, Vocabulary

OPEN = re.compile(r"(^|\s)[\"'`*_]*$")
"""A place in a text where a word begins at once: after a space, or a quote that is opened."""


@final
@dataclass(frozen=True, slots=True)
class Written:
    """What people wrote."""

    contents: Sequence[str]
    """All of it: the prompt, or every message."""
    asked: str
    """Where a source is looked for: the prompt, or the last message of the user."""
    source: str | None = None
    """The part that encoders read, where the request names it."""


def encode_for_all(
    members: Sequence[GuardedMember],
    main: int,
    written: Written,
    encode: Callable[[Vocabulary], EncodedText],
    deadline: Deadline,
) -> list[EncodedText]:
    """A prompt in every member's tokens, in their order.

    Args:
        members: Whose tokens.
        main: Position of the main model.
        written: By people.
        encode: Makes the prompt of a member that continues it.
        deadline: When it must be done.

    Raises:
        ConfigError: A source is named, and no member has an encoder.
        PromptError: A prompt that cannot be encoded, or (ContextLengthError) is too long.
        MemberTimeoutError: The deadline was over.
    """
    readers = [member.source_reader for member in members]
    if written.source is not None and not any(readers):
        raise ConfigError(
            f"source={quote(written.source)} is for members with an encoder (kind 'encoder-decoder'); "
            f"{', '.join(repr(member.name) for member in members)} have none: leave it out"
        )
    sources = [None if reader is None else _find(reader, written) for reader in readers]
    whole = "".join(written.contents)
    for member, source in zip(members, sources, strict=True):
        check_size(member, whole if source is None else source, deadline)
    check_time(deadline)
    prompts = [encode(member.vocabulary) if member.source_reader is None else None for member in members]
    at_start = not _goes_on_with_space([prompts[main], *prompts])
    for index, (reader, source) in enumerate(zip(readers, sources, strict=True)):
        if reader is not None and source is not None:
            prompts[index] = reader.begin(source, written.contents, at_start=at_start)
    return [prompt for prompt in prompts if prompt is not None]


def _find(reader: SourceReader, written: Written) -> str:
    return reader.find(written.asked) if written.source is None else written.source


def _goes_on_with_space(prompts: Sequence[EncodedText | None]) -> bool:
    """Whether an answer that continues these prompts begins with a space of its own: after "Answer:", not after a line.

    What an encoder's member writes begins nowhere; beside others it begins as they do.
    """
    first = next((prompt for prompt in prompts if prompt is not None), None)
    if first is None or first.opens_with_space or OPEN.search(first.text):
        return False
    last = first.text[-1]
    return unicodedata.category(last) not in ("Ps", "Pi") and unicodedata.east_asian_width(last) not in ("W", "F")
