"""Rows that run together: one batched forward pass over all rows of a cache, whatever the cache holds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor

from deepen_llm.members.base import Branch
from deepen_llm.members.transformers.rows import Extended, Rows, measure


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

    def clear(self) -> None:
        """Remove every row."""

    def restore(self) -> bool:
        """Take back what failed halfway; whether that could be done."""


Cache = TypeVar("Cache", bound=RowCache)


class Asked(NamedTuple):
    """What is measured in a pass."""

    measured: Mapping[int, int]
    """How many tokens, by row or by place in the batch."""
    temperature: float = 1.0


class BatchedRows(Rows, Generic[Cache]):
    """Running rows of one model in one cache.

    Rows that begin are prefilled in a batch of their own and then join, so that a long prompt does not widen the
    pass of the rows that run already.
    """

    tells_each = True

    def __init__(self, cache: Cache) -> None:
        """`cache` is empty."""
        self._cache = cache
        self._order: list[int] = []
        self._lost: set[int] = set()

    @property
    def computes_all(self) -> bool:
        """Whether rows without new tokens cost nothing beside the others."""
        return False

    @abstractmethod
    def _begin(self, rows: Sequence[int]) -> Cache:
        """A cache for rows that begin."""

    @abstractmethod
    def _run(self, cache: Cache, fed: Sequence[Sequence[int]], kept: Sequence[int]) -> Tensor:
        """One pass over all rows of a cache, each with some new tokens or none, and at least one in all.

        Args:
            cache: Where the rows' past is, and what the pass is added to.
            fed: Their new tokens.
            kept: The places of new tokens after which logits are needed, ascending.

        Returns:
            Logits (rows, len(kept), num_logits); those of places that a row does not have mean nothing.
        """

    def extend(
        self, tokens: Mapping[int, Sequence[int]], measured: Mapping[int, int], *, temperature: float = 1.0
    ) -> Extended:
        """See `Rows.extend`."""
        self._check_kept(tokens)
        with self._keep_even():
            return self._extend_all(tokens, Asked(measured, temperature))

    def extend_each(self, tokens: Mapping[int, Sequence[int]], num_told: Mapping[int, int]) -> Tensor:
        """See `Rows.extend_each`."""
        self._check_kept(tokens)
        with self._keep_even():
            found: dict[int, Tensor] = {}
            self._pass_all(tokens, lambda cache, rows: found.update(self._tell_each(cache, rows, tokens, num_told)))
            return torch.cat([found[row] for row in tokens])

    def peek(self, branches: Sequence[Branch]) -> Tensor:
        """Logits after other tokens, from copies of the rows."""
        self._check_kept(row for row, _, _ in branches)
        cache = self._cache.copy_rows([self._order.index(row) for row, _, _ in branches])
        for index, (_, num_back, _) in enumerate(branches):
            if num_back:
                cache.rollback(index, num_back)
        return self._forward(cache, [ids for _, _, ids in branches])[0]

    def rollback(self, row: int, num_tokens: int) -> None:
        """Forget the last `num_tokens` tokens of a row."""
        self._check_kept([row])
        if num_tokens:
            self._cache.rollback(self._order.index(row), num_tokens)

    def release(self, row: int) -> None:
        """Free a row; a row that never ran has nothing to free."""
        self._lost.discard(row)
        if row in self._order:
            index = self._order.index(row)
            self._order.remove(row)
            with self._keep_even():
                self._cache.drop(index)

    @contextmanager
    def _keep_even(self) -> Iterator[None]:
        """Where a change of the cache fails halfway, take back what it did; rows for which that is too late are lost.

        A pass leaves its tokens in the layers that it came through, also for the rows that had none.
        """
        try:
            yield
        except BaseException:
            if not self._cache.restore():
                self._cache.clear()
                self._lost.update(self._order)
                self._order = []
            raise

    def _check_kept(self, rows: Iterable[int]) -> None:
        """Raise for rows that were lost, which would begin anew as if they had been empty."""
        if not self._lost.isdisjoint(rows):
            raise RuntimeError("a failure before, when the cache was changed, has cost this row its keys and values")

    def _extend_all(self, tokens: Mapping[int, Sequence[int]], asked: Asked) -> Extended:
        """Feed rows that run and rows that begin, in a pass each."""
        if list(tokens) == self._order:
            return self._extend(self._cache, self._order, tokens, asked)
        passes: list[tuple[list[int], Extended]] = []
        self._pass_all(tokens, lambda cache, rows: passes.append((rows, self._extend(cache, rows, tokens, asked))))
        logits = {row: one for rows, made in passes for row, one in zip(rows, made.logits, strict=True)}
        found = {row: one for _, made in passes for row, one in made.measured.items()}
        return Extended(torch.stack([logits[row] for row in tokens]), found)

    def _pass_all(self, tokens: Mapping[int, Sequence[int]], run: Callable[[Cache, list[int]], object]) -> None:
        """A pass for the rows that run, and one for those that begin, which then run too."""
        new = [row for row in tokens if row not in self._order]
        fed = [row for row in self._order if row in tokens]
        width = max((len(tokens[row]) for row in fed), default=0)
        if fed and not self.computes_all and _pays_to_part(len(fed), len(self._order), width):
            places = [self._order.index(row) for row in fed]
            part = self._cache.copy_rows(places)
            run(part, fed)
            self._cache.append(part, places)
        elif fed:
            run(self._cache, self._order)
        if new:
            begun = self._begin(new)
            run(begun, new)
            self._cache.merge(begun)
            self._order = self._order + new

    def _tell_each(
        self, cache: Cache, rows: Sequence[int], tokens: Mapping[int, Sequence[int]], num_told: Mapping[int, int]
    ) -> dict[int, Tensor]:
        """One pass over all rows of a cache; by row the logits after its last tokens."""
        fed = [tokens.get(row, ()) for row in rows]
        told = {place: num_told[row] for place, row in enumerate(rows) if row in tokens}
        kept = sorted({at for place, num in told.items() for at in range(len(fed[place]) - num, len(fed[place]))})
        logits = self._run(cache, fed, kept)
        ends = {place: kept.index(len(fed[place]) - 1) + 1 for place in told}
        return {rows[place]: logits[place, ends[place] - num : ends[place]] for place, num in told.items()}

    def _extend(self, cache: Cache, rows: Sequence[int], tokens: Mapping[int, Sequence[int]], asked: Asked) -> Extended:
        """One pass over all rows of a cache, of which only some may have new tokens."""
        fed = [tokens.get(row, ()) for row in rows]
        at_places = {place: asked.measured[row] for place, row in enumerate(rows) if asked.measured.get(row)}
        logits, found = self._forward(cache, fed, Asked(at_places, asked.temperature))
        return Extended(logits, {rows[place]: logprobs for place, logprobs in found.items()})

    def _forward(
        self, cache: Cache, fed: Sequence[Sequence[int]], asked: Asked | None = None
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """One pass over all rows of a cache, each with some new tokens or none; `asked` goes by place in the batch.

        Returns:
            Logits (rows, num_logits), and by place in the batch the log-probabilities of the tokens to measure.
        """
        measured, temperature = asked or Asked({})
        num_new = [len(ids) for ids in fed]
        kept = {max(new - 1, 0) for new in num_new}
        for place, num in measured.items():
            kept.update(range(num_new[place] - num - 1, num_new[place] - 1))
        logits = self._run(cache, fed, sorted(kept))
        if len(kept) == 1:
            return logits[:, 0], {}
        at = {position: index for index, position in enumerate(sorted(kept))}
        last = torch.tensor([at[max(new - 1, 0)] for new in num_new], device=logits.device)
        found = {
            place: measure(logits[place, at[begin - 1] : at[begin - 1] + num], fed[place][begin:], temperature)
            for place, num in measured.items()
            for begin in [num_new[place] - num]
        }
        return logits[torch.arange(len(fed), device=logits.device), last], found


def _pays_to_part(num_fed: int, num_rows: int, width: int) -> bool:
    """Whether rows with new tokens had better go apart: each is copied then, and otherwise the others are computed too.

    Copying a row of some hundred tokens takes about as long as computing a token.
    """
    return num_fed <= (num_rows - num_fed) * width
