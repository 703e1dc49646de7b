"""Text that is too long for a member's context: prompts lose their beginning, texts are cut into passages."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepen_llm.errors import ContextLengthError
from deepen_llm.vocabulary.chat import check_text

if TYPE_CHECKING:
    from deepen_llm.members.base import Member

_PARAGRAPHS = re.compile(r"(?<=\n)(?=[^\n])")
_SENTENCES = re.compile(r"(?<=[.!?]) +(?=\S)")
_WORDS = re.compile(r" +(?=\S)")
CHARACTERS_PER_TOKEN = 16
"""No text has more of them: what lies beyond is not looked at for one passage."""


@dataclass(frozen=True)
class Passage:
    """A piece of text: its beginning is read, its continuation is scored."""

    beginning: str
    continuation: str

    @property
    def num_bytes(self) -> int:
        """The size of what is scored, in UTF-8."""
        return len(self.continuation.encode())


def fit_prompt(members: Sequence[Member], prompt: str, room: int | str) -> str:
    """The prompt, or as much of its end as fits into every member's context beside what follows.

    Whole paragraphs go first, so that a prompt with examples loses the first examples; then lines, then words.

    Args:
        members: All of them read the same text.
        prompt: What they read.
        room: What follows: a number of tokens, or a text.

    Raises:
        ContextLengthError: Not even the last word fits.
        PromptError: A lone surrogate, which no tokenizer takes.
    """
    check_text(prompt, "the prompt")
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


def split_passages(members: Sequence[Member], text: str, *, max_characters: int | None = None) -> list[Passage]:
    """The text in passages, the same for each of these members and for all of them together.

    A passage is scored from its second word on: a model without a BOS cannot say how probable the first one is. Blank
    lines between passages are not scored. Passages are as long as contexts allow, or of `max_characters` unless there
    is no space for so long.

    Raises:
        ContextLengthError: A stretch without a space that is too long for a member.
    """
    passages = []
    for piece in _pieces(members, text, share=1, limit=max_characters):
        words = piece.strip("\n").lstrip(" ")
        cut = re.search(r"(?<=\S)\s", words)
        if cut is not None and words[cut.start() :].strip():
            passages.append(Passage(words[: cut.start()], words[cut.start() :]))
    return passages


def split_rolling(members: Sequence[Member], text: str) -> list[tuple[str, str]]:
    """Pairs of a context and a continuation; the continuations join to the text, each context is the piece before.

    Raises:
        ContextLengthError: A stretch without a space that is too long for a member.
    """
    whole = [text] if all(fits(member, "", text) for member in members) else list(_pieces(members, text, share=2))
    return list(zip(["", *whole[:-1]], whole, strict=True)) if text else []


def _pieces(members: Sequence[Member], text: str, share: int, limit: int | None = None) -> Iterator[str]:
    """Pieces that join to the text, as many paragraphs, else sentences, else words in each as fit."""
    rest = text
    while rest:
        end = _last_fitting(members, rest, share, limit)
        yield rest[:end]
        rest = rest[end:]


def _last_fitting(members: Sequence[Member], text: str, share: int, limit: int | None) -> int:
    """Where the longest piece at the text's beginning ends that takes a `share`-th of every context."""
    longest = CHARACTERS_PER_TOKEN * min(member.context_length for member in members)
    # Without a seam within the limit, the piece is longer: better that than none.
    for near in dict.fromkeys(text[:length] for length in (min(limit or longest, longest), longest)):
        for seams in (_PARAGRAPHS, _SENTENCES, _WORDS):
            # A space at the very beginning is no seam: the piece before it would be empty, for ever.
            ends = [match.start() for match in seams.finditer(near, 1)] + [len(text)] * (near == text)
            fitting = bisect_left(ends, True, key=lambda end: not _takes_share(members, text[:end], share))
            if fitting:
                return ends[fitting - 1]
    raise ContextLengthError(
        f"a stretch without a space is too long for the members, it begins {text[:40]!r}: break it"
    )


def _takes_share(members: Sequence[Member], piece: str, share: int) -> bool:
    return all(share * (len(member.vocabulary.encode(piece)) + 2) < member.context_length for member in members)


def _endings(prompt: str) -> Iterator[str]:
    """Ever shorter ends of a prompt."""
    for mark in ("\n\n", "\n", " "):
        at = prompt.find(mark)
        while 0 <= at < len(prompt.rstrip()):
            rest = prompt[at + len(mark) :]
            if rest.strip():
                yield rest
            at = prompt.find(mark, at + len(mark))
