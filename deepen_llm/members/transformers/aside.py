"""Rows that are in no batch: those that were parked, and those that begin with what another holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Self, final

from deepen_llm.members.transformers.row_cache import Cache


@final
@dataclass(frozen=True, slots=True)
class Aside(Generic[Cache]):
    """What a row holds: a cache of one row that nobody changes, without some of its last tokens.

    Rows that begin with the same tokens share the cache, until they are fed.
    """

    cache: Cache
    num_back: int = 0

    def without(self, num_tokens: int) -> Self:
        """The same with fewer tokens at its end."""
        return replace(self, num_back=self.num_back + num_tokens)


@final
class AsideRows(Generic[Cache]):
    """Rows outside the batch, by their handles."""

    def __init__(self) -> None:
        self._rows: dict[int, Aside[Cache]] = {}

    def __contains__(self, row: int) -> bool:
        """Whether the row is one of them."""
        return row in self._rows

    def __getitem__(self, row: int) -> Aside[Cache]:
        """What a row holds."""
        return self._rows[row]

    def put(self, row: int, aside: Aside[Cache]) -> None:
        """Add a row."""
        self._rows[row] = aside

    def drop(self, rows: Iterable[int]) -> None:
        """Forget those of some rows that are there."""
        for row in rows:
            self._rows.pop(row, None)

    def copy(self, rows: Sequence[int]) -> Iterator[tuple[list[int], Cache]]:
        """Those of some rows that are there, with a cache of their own: one for all that shared one."""
        groups: dict[int, list[int]] = {}
        for row in rows:
            if row in self:
                groups.setdefault(id(self._rows[row].cache), []).append(row)
        for group in groups.values():
            asides = [self._rows[row] for row in group]
            cache = asides[0].cache.copy_rows([0] * len(group))
            for index, aside in enumerate(asides):
                if aside.num_back:
                    cache.rollback(index, aside.num_back)
            yield group, cache
