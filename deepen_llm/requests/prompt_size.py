"""Texts that are far too long are refused by their beginning, before all of their length is worked on."""

from __future__ import annotations

from deepen_llm.errors import ContextLengthError
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.requests.deadline import Deadline

PLENTY = 8
"""Characters a token: a text with no more of them than this for every token of a context is tokenized as it is."""
PIECE = 1 << 16
"""Characters that are tokenized at a time."""
MOST_ADDED = 100
"""Tokens that a text has more, at the very most, for being cut at any one place; mostly it is one or two."""


def check_size(member: GuardedMember, text: str, deadline: Deadline) -> None:
    """Refuse a text whose beginning alone is more than the member's context holds, or its encoder reads.

    Raises:
        ContextLengthError: It is too long.
        MemberTimeoutError: The deadline is over.
    """
    reader = member.source_reader
    fits = member.context_length if reader is None else reader.max_tokens
    holds = "context holds" if reader is None else "encoder reads"
    num_tokens = 0
    for begin in range(0, len(text) if len(text) > fits * PLENTY else 0, PIECE):
        num_tokens += len(member.vocabulary.encode(text[begin : begin + PIECE])) - MOST_ADDED
        if num_tokens >= fits:
            raise ContextLengthError(
                f"the text has more than {num_tokens} tokens for member {member.name!r}, whose {holds} {fits}: "
                "shorten it"
            )
        check_time(deadline)


def check_time(deadline: Deadline) -> None:
    """Give up what nobody waits for any more.

    Raises:
        MemberTimeoutError: The deadline is over.
    """
    if deadline.is_over:
        raise deadline.error
