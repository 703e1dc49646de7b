"""Prompts that are too long for a member: what is left out, and where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from deepen_llm.errors import ContextLengthError

if TYPE_CHECKING:
    from deepen_llm.members.base import Member


def fit_prompt(members: Sequence[Member], prompt: str, room: int | str) -> str:
    """The prompt, or as much of its end as fits into every member's context beside what follows.

    Whole paragraphs go first, so that a prompt with examples loses the first examples; then lines, then words.

    Args:
        members: All of them read the same text.
        prompt: What they read.
        room: What follows: a number of tokens, or a text.

    Raises:
        ContextLengthError: Not even the last word fits.
    """
    for candidate in (prompt, *_endings(prompt)):
        if all(fits(member, candidate, room) for member in members):
            return candidate
    raise ContextLengthError(
        f"not even the end of the prompt fits into {min(member.context_length for member in members)} tokens beside "
        "the answer: ask for a shorter answer, or take a model with a longer context"
    )


def fits(member: Member, prompt: str, room: int | str) -> bool:
    """Whether a member's context holds a prompt and what follows it, with one token to spare."""
    vocabulary = member.vocabulary
    if isinstance(room, int):
        taken = len(vocabulary.prefix_ids) + len(vocabulary.encode(prompt)) + room
    else:
        taken = len(vocabulary.prefix_ids) + len(vocabulary.encode(prompt + room)) + 1
    return taken < member.context_length


def _endings(prompt: str) -> Iterator[str]:
    """Ever shorter ends of a prompt."""
    for mark in ("\n\n", "\n", " "):
        at = prompt.find(mark)
        while 0 <= at < len(prompt.rstrip()):
            rest = prompt[at + len(mark) :]
            if rest.strip():
                yield rest
            at = prompt.find(mark, at + len(mark))
