"""What texts suggest: after tokens that stood somewhere before, what followed them there is likely to come again.

Prompts are quoted, code and lists repeat themselves, answers resemble one another. Looking up costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

SIZES = (6, 4, 3, 2, 1)
"""How many of the last tokens are looked up, the most telling number first."""


@final
class TokenLookup:
    """What followed the last few tokens where they stood last."""

    def __init__(self, max_contexts: int | None = None) -> None:
        """Begin without any text; beyond so many contexts the older half is forgotten."""
        self._next: dict[tuple[int, ...], int] = {}
        self._older: dict[tuple[int, ...], int] = {}
        self._most_young = None if max_contexts is None else max_contexts // 2

    def note(self, ids: Sequence[int], begin: int) -> None:
        """Take in the tokens of a text from a place on; those before it have been taken in."""
        for end in range(begin, len(ids)):
            for size in SIZES:
                if size <= end:
                    self._next[tuple(ids[end - size : end])] = ids[end]
        if self._most_young is not None and len(self._next) > self._most_young:
            self._older, self._next = self._next, {}

    def find(self, last: tuple[int, ...]) -> int | None:
        """What followed these tokens, of which there are as many as one of `SIZES`; None where they never stood."""
        return self._next.get(last, self._older.get(last))
