"""What the rows of one batch have in a model's memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self, TypeVar


class RowCache(Protocol):
    """What the rows of one batch have in a model's memory, by their place in it; see `RaggedCache`."""

    def copy_rows(self, indices: Sequence[int]) -> Self:
        """A cache of its own that holds copies of these rows."""

    def merge(self, other: Self) -> None:
        """Take over the rows of `other`, after one's own. `other` is used up."""

    def append(self, part: Self, indices: Sequence[int]) -> None:
        """Take over what `part`, a copy of these rows, was fed in a pass. It is used up."""

    def rollback(self, index: int, num_tokens: int) -> None:
        """Take back the last tokens of a row."""

    def drop(self, index: int) -> None:
        """Remove a row."""

    def compact(self) -> None:
        """Let go of what no row needs."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""

    def clear(self) -> None:
        """Remove every row."""

    def restore(self) -> bool:
        """Take back what failed halfway; whether that could be done."""


Cache = TypeVar("Cache", bound=RowCache)
