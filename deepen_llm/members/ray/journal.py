"""What an actor was told: enough to tell another one the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from deepen_llm.members.base import Branch
from deepen_llm.members.ray.messages import Asked, Change, Told


@final
@dataclass(slots=True, eq=False)
class Entry:
    """A pass that was started, until its result is taken."""

    asked: Asked
    reference: Any = None
    """The answer to come; None where no actor was asked that still runs."""
    told: Told | None = None
    error: Exception | None = None


@final
class Journal:
    """The tokens of every row as of the last answer, the changes that wait for the next pass, and passes under way."""

    def __init__(self) -> None:
        self._rows: dict[int, list[int] | None] = {}
        self._sources: dict[int, tuple[int, ...]] = {}
        self._parked: set[int] = set()
        self._handles = itertools.count()
        self._changes: list[Change] = []
        self._unsettled: list[Entry] = []

    @property
    def unsettled(self) -> Sequence[Entry]:
        """Passes without an answer, in the order of their start."""
        return self._unsettled

    @property
    def is_idle(self) -> bool:
        """Whether no row is open but those that are set aside."""
        return self._rows.keys() <= self._parked

    def open(self, source_ids: Sequence[int] = ()) -> int:
        """A new row, over a source where there is one; the actor hears of it when it is fed."""
        row = self.next_row()
        self._rows[row] = []
        if source_ids:
            self._sources[row] = tuple(source_ids)
        return row

    @property
    def sources(self) -> Mapping[int, Sequence[int]]:
        """What an encoder reads for open rows that have a source."""
        return self._sources

    def roll_back(self, row: int, num_tokens: int) -> None:
        """Take the last tokens of a row back."""
        ids = self._held(row)
        if num_tokens:
            del ids[len(ids) - num_tokens :]
            self._changes.append(Change(row, num_tokens))

    def next_row(self) -> int:
        """A handle for a row to come."""
        return next(self._handles)

    def fork(self, row: int, new: int, num_back: int) -> None:
        """The actor has begun a row with what another holds but for its last tokens."""
        ids = self._held(row)
        self._rows[new] = ids[: len(ids) - num_back]
        if row in self._sources:
            self._sources[new] = self._sources[row]

    def park(self, row: int) -> None:
        """A row was set aside: another actor is not fed it."""
        self._parked.add(row)

    def release(self, row: int) -> None:
        """End a row."""
        del self._rows[row]
        self._parked.discard(row)
        self._sources.pop(row, None)
        self._changes.append(Change(row, None))

    def begin(
        self,
        tokens: Mapping[int, Sequence[int]],
        measured: Mapping[int, int] | None = None,
        *,
        branches: Sequence[Branch] = (),
        temperature: float = 1.0,
    ) -> Entry:
        """A pass, with the changes that have waited for it."""
        fed = {row: tuple(ids) for row, ids in tokens.items()}
        kept = tuple(Branch(row, back, tuple(ids)) for row, back, ids in branches)
        for row in (*fed, *(branch.row for branch in kept)):
            self._held(row)
        entry = Entry(Asked(self.take_changes(), fed, kept, dict(measured or {}), temperature, self._begun(fed)))
        self._unsettled.append(entry)
        return entry

    def take_changes(self) -> tuple[Change, ...]:
        """The changes that wait; they are then told."""
        changes, self._changes = tuple(self._changes), []
        return changes

    def settle(self, entry: Entry, told: Told) -> None:
        """The answer to the first pass under way."""
        self._unsettled.remove(entry)
        entry.told = told
        for row, ids in entry.asked.tokens.items():
            if (held := self._rows.get(row)) is not None:
                held.extend(ids)

    def fail(self, entry: Entry, error: Exception) -> None:
        """The first pass under way has no answer: what its rows hold is not known."""
        self._unsettled.remove(entry)
        entry.error = error
        for row in entry.asked.rows:
            if row in self._rows:
                self._rows[row] = None

    def begin_anew(self) -> dict[int, list[int]]:
        """What another actor is to be fed before it is asked all that is under way again.

        Changes are in it already: no row is changed while it is part of a pass.
        """
        self._changes = []
        for entry in self._unsettled:
            asked = entry.asked
            entry.asked = replace(asked, changes=(), sources=self._begun(asked.tokens))
        return {row: list(ids) for row, ids in self._rows.items() if ids and row not in self._parked}

    def forget(self) -> None:
        """The actor died, and no other one is started: what rows held is lost."""
        self._rows = {row: None if ids else ids for row, ids in self._rows.items()}

    def _begun(self, rows: Iterable[int]) -> dict[int, Sequence[int]]:
        """The sources of rows that hold nothing yet, as of the last answer."""
        return {row: self._sources[row] for row in rows if row in self._sources and not self._rows.get(row)}

    def _held(self, row: int) -> list[int]:
        ids = self._rows[row]
        if ids is None:
            raise RuntimeError("a pass that failed before has cost this row its context: it can only be released")
        return ids
