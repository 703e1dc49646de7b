"""What the text itself suggests: where its last tokens stood before, what came after them is likely to come again.

Prompts are quoted, code and lists repeat themselves, and so do small models. The look-up costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

SIZES = (4, 3, 2)
"""How many of the last tokens are looked up, the most telling number first."""


@final
class TokenLookup:
    """One text's tokens, by what stood before them."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}
        """Where a few tokens stood last: the place behind them. Those at the very end are not in it yet."""

    def extend(self, ids: Sequence[int]) -> None:
        """Take in the tokens behind those that are there."""
        for token_id in ids:
            end = len(self._ids)
            for size in SIZES:
                if size <= end:
                    self._ends[tuple(self._ids[end - size :])] = end
            self._ids.append(token_id)

    @property
    def num_tokens(self) -> int:
        """Of the text, so far as it was taken in."""
        return len(self._ids)

    def find(self, num_tokens: int) -> tuple[int, list[int]]:
        """What came after the last tokens where they stood before.

        Returns:
            How many of the last tokens stood there, 0 where none did, and at most `num_tokens` tokens behind them. What
            overlaps the end goes on in a circle.
        """
        for size in SIZES:
            if len(self._ids) >= size and (end := self._ends.get(tuple(self._ids[-size:]))) is not None:
                period = self._ids[end:]
                return size, [period[at % len(period)] for at in range(num_tokens)]
        return 0, []
