"""Rows that run together: one batched forward pass over all rows of a cache, whatever the cache holds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Aside(Generic[Cache]):
    """A row that is in no batch: the only one of a cache that nobody changes, without some of its last tokens.

    Rows that begin with the same tokens share the cache, until they are fed.
    """

    cache: Cache
    num_back: int = 0


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

    def __init__(self, cache: Cache) -> None:
        """`cache` is empty."""
        self._cache = cache
        self._order: list[int] = []
        self._aside: dict[int, Aside[Cache]] = {}
        self._copied: tuple[int, Aside[Cache]] | None = None
        """A row of the batch that was copied, until something changes: several may begin with what it holds."""
        self._lost: set[int] = set()

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
        self._copied = None
        with self._keep_even():
            return self._extend_all(tokens, Asked(measured, temperature))

    def peek(self, branches: Sequence[Branch]) -> Tensor:
        """Logits after other tokens, from copies of the rows."""
        self._join([row for row, _, _ in branches])
        cache = self._cache.copy_rows([self._order.index(row) for row, _, _ in branches])
        for index, (_, num_back, _) in enumerate(branches):
            if num_back:
                cache.rollback(index, num_back)
        return self._forward(cache, [ids for _, _, ids in branches])[0]

    def rollback(self, row: int, num_tokens: int) -> None:
        """Forget the last `num_tokens` tokens of a row."""
        self._join([row])
        self._copied = None
        if num_tokens:
            self._cache.rollback(self._order.index(row), num_tokens)

    def fork(self, row: int, new: int, num_back: int) -> int:
        """Begin a row outside the batch, which it joins when it is fed."""
        source = self._set_aside(row)
        self._aside[new] = Aside(source.cache, source.num_back + num_back)
        return num_back

    def park(self, row: int) -> int:
        """Take a row out of the batch; how many bytes it takes."""
        aside = self._set_aside(row)
        self.release(row)
        self._aside[row] = aside
        return aside.cache.nbytes

    def release(self, row: int) -> None:
        """Free a row; a row that never ran has nothing to free."""
        self._lost.discard(row)
        self._aside.pop(row, None)
        self._copied = None
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
        new = [row for row in tokens if row not in self._order]
        if len(new) < len(tokens):
            passes.append((self._order, self._extend(self._cache, self._order, tokens, asked)))
        for rows, begun in self._begin_groups(new):
            passes.append((rows, self._extend(begun, rows, tokens, asked)))
            self._merge(rows, begun)
        logits = {row: one for rows, made in passes for row, one in zip(rows, made.logits, strict=True)}
        found = {row: one for _, made in passes for row, one in made.measured.items()}
        return Extended(torch.stack([logits[row] for row in tokens]), found)

    def _begin_groups(self, rows: Sequence[int]) -> Iterator[tuple[list[int], Cache]]:
        """Rows that are not in the batch yet, with what they hold: the empty ones, and those that share a cache."""
        if empty := [row for row in rows if row not in self._aside]:
            yield empty, self._begin(empty)
        groups: dict[int, list[int]] = {}
        for row in rows:
            if row in self._aside:
                groups.setdefault(id(self._aside[row].cache), []).append(row)
        for group in groups.values():
            asides = [self._aside[row] for row in group]
            cache = asides[0].cache.copy_rows([0] * len(group))
            for index, aside in enumerate(asides):
                if aside.num_back:
                    cache.rollback(index, aside.num_back)
            yield group, cache

    def _merge(self, rows: Sequence[int], cache: Cache) -> None:
        """Take rows into the batch."""
        self._cache.merge(cache)
        self._order = [*self._order, *rows]
        for row in rows:
            self._aside.pop(row, None)

    def _join(self, rows: Sequence[int]) -> None:
        """Take those of some rows into the batch that are outside it and hold something."""
        self._check_kept(rows)
        if outside := [row for row in dict.fromkeys(rows) if row in self._aside]:
            with self._keep_even():
                for group, cache in self._begin_groups(outside):
                    self._merge(group, cache)

    def _set_aside(self, row: int) -> Aside[Cache]:
        """What a row holds, in a cache of its own."""
        self._check_kept([row])
        if row in self._aside:
            return self._aside[row]
        if self._copied is None or self._copied[0] != row:
            cache = self._cache.copy_rows([self._order.index(row)])
            cache.compact()
            self._copied = (row, Aside(cache))
        return self._copied[1]

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
