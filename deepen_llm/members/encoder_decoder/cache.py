"""What the rows of a decoder have in memory: the answer so far, and the source under it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, final

from torch import Tensor
from transformers import EncoderDecoderCache

from deepen_llm.members.transformers.cache import RaggedCache


@final
class SourcedCache:
    """Two ragged caches, with the same rows in both."""

    def __init__(self) -> None:
        self.answer = RaggedCache()
        """Keys and values of the decoder's own tokens."""
        self.source = RaggedCache()
        """Keys and values that the decoder's layers make of the encoder's states, once; no row of it changes."""
        self.states: Tensor | None = None
        """What the encoder made, (rows, slots, hidden), before the first pass of the decoder."""

    @property
    def keys_values(self) -> EncoderDecoderCache:
        """Both as transformers takes them."""
        return EncoderDecoderCache(self.answer.keys_values, self.source.keys_values)

    @property
    def nbytes(self) -> int:
        """Memory of keys and values."""
        return self.answer.nbytes + self.source.nbytes

    def copy_rows(self, indices: Sequence[int]) -> Self:
        """A cache of its own that holds copies of these rows; a row may be named more than once."""
        copied = type(self)()
        copied.answer, copied.source = self.answer.copy_rows(indices), self.source.copy_rows(indices)
        return copied

    def merge(self, other: Self) -> None:
        """Take over the rows of `other`, which is used up."""
        self.answer.merge(other.answer)
        self.source.merge(other.source)

    def append(self, part: Self, indices: Sequence[int]) -> None:
        """Take over what `part`, a copy of these rows, was fed in a pass; their sources are there."""
        self.answer.append(part.answer, indices)

    def rollback(self, index: int, num_tokens: int) -> None:
        """Take back the last tokens of a row's answer."""
        self.answer.rollback(index, num_tokens)

    def drop(self, index: int) -> None:
        """Remove a row."""
        self.answer.drop(index)
        self.source.drop(index)

    def compact(self) -> None:
        """Drop the slots that no row needs."""
        self.answer.compact()
        self.source.compact()

    def clear(self) -> None:
        """Remove every row."""
        self.answer.clear()
        self.source.clear()

    def restore(self) -> bool:
        """Take back what failed halfway; whether both hold the same rows, as they were."""
        restored = [cache.restore() for cache in (self.answer, self.source)]
        return all(restored) and self.answer.num_rows == self.source.num_rows
