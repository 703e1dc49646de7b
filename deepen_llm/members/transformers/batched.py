"""Rows that run together: one batched forward pass over all rows of a cache, whatever the cache holds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Generic, NamedTuple

import torch
from torch import Tensor

from deepen_llm.members.base import Branch
from deepen_llm.members.transformers.aside import Aside, AsideRows
from deepen_llm.members.transformers.leaves import find_leaves
from deepen_llm.members.transformers.row_cache import Cache
from deepen_llm.members.transformers.rows import Extended, Rows, measure


class Asked(NamedTuple):
    """What is measured in a pass."""

    measured: Mapping[int, int]
    """How many tokens, by row or by place in the batch."""
    temperature: float = 1.0


class BatchedRows(Rows, Generic[Cache]):
    """Running rows of one model in one cache.

    Rows that begin are prefilled in a batch of their own, so that a long prompt does not widen the pass of the rows
    that run already, and join these once they are fed together with them: a prompt that is read in pieces costs them
    nothing.
    """

    tells_each = True

    def __init__(self, cache: Cache) -> None:
        """`cache` is empty."""
        self._cache = cache
        self._order: list[int] = []
        self._apart: list[tuple[list[int], Cache]] = []
        """Rows that have not joined the others yet, and what they have in memory, by the pass in which they began."""
        self._aside: AsideRows[Cache] = AsideRows()
        self._copied: tuple[int, Aside[Cache]] | None = None
        """A row that was copied, until something changes: several may begin with what it holds."""
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
        self._copied = None
        with self._keep_even():
            return self._extend_all(tokens, Asked(measured, temperature))

    def extend_each(self, tokens: Mapping[int, Sequence[int]], num_told: Mapping[int, int]) -> Tensor:
        """See `Rows.extend_each`."""
        self._check_kept(tokens)
        self._copied = None
        with self._keep_even():
            found: dict[int, Tensor] = {}
            self._pass_all(tokens, lambda cache, rows: found.update(self._tell_each(cache, rows, tokens, num_told)))
            return torch.cat([found[row] for row in tokens])

    def peek(self, branches: Sequence[Branch]) -> Tensor:
        """Logits after other tokens, from copies of the rows."""
        self._bring_in([row for row, _, _ in branches])
        leaves, places = find_leaves(branches)
        with self._keep_even():
            self._join({row for row, _, _ in leaves})
        cache = self._cache.copy_rows([self._order.index(row) for row, _, _ in leaves])
        for index, (_, num_back, _) in enumerate(leaves):
            if num_back:
                cache.rollback(index, num_back)
        kept = sorted({end for _, end in places})
        logits = self._run(cache, [ids for _, _, ids in leaves], kept)
        rows, ends = zip(*((number, kept.index(end)) for number, end in places), strict=True)
        return logits[torch.tensor(rows, device=logits.device), torch.tensor(ends, device=logits.device)]

    def rollback(self, row: int, num_tokens: int) -> None:
        """Forget the last `num_tokens` tokens of a row."""
        self._bring_in([row])
        self._copied = None
        rows, cache = self._find(row)
        if num_tokens:
            cache.rollback(rows.index(row), num_tokens)

    def fork(self, row: int, new: int, num_back: int) -> int:
        """Begin a row outside the batch, which it joins when it is fed."""
        self._aside.put(new, self._set_aside(row).without(num_back))
        return num_back

    def park(self, row: int) -> int:
        """Take a row out of the batch; how many bytes it takes."""
        aside = self._set_aside(row)
        self.release(row)
        self._aside.put(row, aside)
        return aside.cache.nbytes

    def release(self, row: int) -> None:
        """Free a row; a row that never ran has nothing to free."""
        self._lost.discard(row)
        self._aside.drop([row])
        self._copied = None
        self._apart = [(rows, cache) for rows, cache in self._apart if rows != [row]]
        if any(row in rows for rows, _ in self._apart):
            with self._keep_even():
                self._join({row})
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
        """A pass for the rows that run, and one for each group of those that begin, or have begun and go on apart."""
        fed = set(tokens)
        new = [row for row in tokens if row not in self._order and not any(row in rows for rows, _ in self._apart)]
        touched = [(rows, cache) for rows, cache in self._apart if not fed.isdisjoint(rows)]
        if len(touched) == 1 and fed == set(touched[0][0]):
            self._run_apart(*touched[0], run)
            return
        self._join(fed)
        self._run_joined([row for row in self._order if row in fed], tokens, run)
        for rows, begun in self._begin_all(new):
            run(begun, rows)
            self._set_apart(rows, begun)
        if new and (not self._order or len(new) < len(fed)):
            self._join(fed)

    def _run_joined(
        self, fed: list[int], tokens: Mapping[int, Sequence[int]], run: Callable[[Cache, list[int]], object]
    ) -> None:
        """A pass for those of the rows of the batch that are fed: over all rows, or over a copy of these."""
        width = max((len(tokens[row]) for row in fed), default=0)
        if fed and not self.computes_all and _pays_to_part(len(fed), len(self._order), width):
            places = [self._order.index(row) for row in fed]
            part = self._cache.copy_rows(places)
            run(part, fed)
            self._cache.append(part, places)
        elif fed:
            run(self._cache, self._order)

    def _run_apart(self, rows: list[int], cache: Cache, run: Callable[[Cache, list[int]], object]) -> None:
        """A pass for rows that have begun and not joined the others; where it fails, they are lost."""
        try:
            run(cache, rows)
        except BaseException:
            self._apart = [one for one in self._apart if one[0] is not rows]
            self._lost.update(rows)
            raise

    def _join(self, fed: Collection[int]) -> None:
        """Those of some rows that are apart join the others, and so do those with which they began."""
        for rows, cache in list(self._apart):
            if not set(fed).isdisjoint(rows):
                self._apart = [one for one in self._apart if one[0] is not rows]
                self._lost.update(rows)  # unless they come through
                self._cache.merge(cache)
                self._lost.difference_update(rows)
                self._order = [*self._order, *rows]

    def _find(self, row: int) -> tuple[list[int], Cache]:
        """The rows among which one is, and what they have in memory."""
        return next(((rows, cache) for rows, cache in self._apart if row in rows), (self._order, self._cache))

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

    def _begin_all(self, rows: Sequence[int]) -> Iterator[tuple[list[int], Cache]]:
        """Rows that are not in the batch, with what they hold: the empty ones, and those that hold something."""
        if empty := [row for row in rows if row not in self._aside]:
            yield empty, self._begin(empty)
        yield from self._aside.copy(rows)

    def _set_apart(self, rows: list[int], cache: Cache) -> None:
        """Rows that have begun, and join the others later."""
        self._apart.append((rows, cache))
        self._aside.drop(rows)

    def _bring_in(self, rows: Sequence[int]) -> None:
        """Have those of some rows that are outside hold what they do in a cache of their own."""
        self._check_kept(rows)
        for group, cache in self._aside.copy(list(dict.fromkeys(rows))):
            self._set_apart(group, cache)

    def _set_aside(self, row: int) -> Aside[Cache]:
        """What a row holds, outside the batch."""
        self._check_kept([row])
        if row in self._aside:
            return self._aside[row]
        if self._copied is None or self._copied[0] != row:
            rows, held = self._find(row)
            cache = held.copy_rows([rows.index(row)])
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


def _pays_to_part(num_fed: int, num_rows: int, width: int) -> bool:
    """Whether rows with new tokens had better go apart: each is copied then, and otherwise the others are computed too.

    Copying a row of some hundred tokens takes about as long as computing a token.
    """
    return num_fed <= (num_rows - num_fed) * width
