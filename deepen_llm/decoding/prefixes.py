"""Rows of requests that are done: one that begins with the same tokens starts behind them, in every member.

Answers stay the same: what a member gave the tokens of a prompt, of which weights learn, is kept with them, and a row
that is to tell more of them begins before what it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import final

from deepen_llm.decoding.past import LEAST_TOKENS, Past
from deepen_llm.decoding.track import Track
from deepen_llm.errors import MemberError
from deepen_llm.members.guarded import GuardedMember

NEARLY_SAME = 16
"""So many tokens are read again rather than copied from another row."""


@final
@dataclass(frozen=True, eq=False, slots=True)
class _Kept:
    """A row that was set aside."""

    member: int
    row: int
    past: Past
    num_bytes: int


@final
@dataclass(frozen=True, slots=True)
class _Place:
    """Where a track may begin: behind so many tokens of a row."""

    num_tokens: int
    row: int
    past: Past
    kept: _Kept | None = None
    """The row, if it is none that runs."""


@final
class Prefixes:
    """Keeps the rows that were used last, and lets tracks begin behind them and behind those that run."""

    def __init__(self, members: Sequence[GuardedMember], max_bytes: int) -> None:
        """`max_bytes` is how much memory the kept rows of all members may take; with 0 every row begins empty."""
        self._members, self._max_bytes = tuple(members), max_bytes
        self._kept: dict[_Kept, None] = {}
        """In the order of their last use."""

    @property
    def num_bytes(self) -> int:
        """How much memory the kept rows take."""
        return sum(kept.num_bytes for kept in self._kept)

    def begin(self, index: int, tracks: Sequence[Track], running: Sequence[Track]) -> set[Track]:
        """Have tracks of a member that are about to begin do so behind what it has read already.

        Args:
            index: The member's position.
            tracks: Those that begin.
            running: Others, which may have begun.

        Returns:
            Those that had better wait until another of them is fed, to begin behind that.
        """
        if not self._max_bytes or not self._members[index].can_fork:
            return set()
        begun = [(track.row, track.past) for track in running if track.has_begun and track.num_fed >= LEAST_TOKENS]
        waiting: set[Track] = set()
        coming: list[Past] = []
        for track in tracks:
            mine = track.coming
            place = self._find_place(index, mine, begun)
            num_tokens = 0 if place is None else place.num_tokens
            if any(mine.count_usable(past) >= num_tokens + LEAST_TOKENS for past in coming):
                waiting.add(track)
                continue
            if place is not None and num_tokens >= LEAST_TOKENS:
                self._put(index, track, place)
            coming.append(track.coming)
        return waiting

    def keep(self, tracks: Sequence[Track]) -> None:
        """Set the rows aside of a sequence that is done, one track a member; they are no longer the tracks'."""
        for index, (member, track) in enumerate(zip(self._members, tracks, strict=True)):
            size = (member.cache_bytes_per_token or 0) * track.num_fed if member.can_fork else 0
            if member.can_fork and track.is_worth_keeping and size <= self._max_bytes:
                self._keep(index, track)
        while self.num_bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Free all rows."""
        for kept in list(self._kept):
            self._drop(kept)

    def _keep(self, index: int, track: Track) -> None:
        """Set one row aside, in place of those of which it holds everything, unless another holds all of it."""
        try:
            track.drop_ahead()
        except MemberError:
            return
        past = track.past
        for kept in list(self._alike(index, past)):
            num_common = kept.past.count_common(past)
            if num_common == len(past):
                self._touch(kept)
                return
            if num_common == len(kept.past):
                self._drop(kept)
        row = track.detach()
        try:
            num_bytes = self._members[index].park(row)
        except MemberError:
            self._release(index, row)
        else:
            self._kept[_Kept(index, row, past, num_bytes)] = None

    def _find_place(self, index: int, coming: Past, begun: Sequence[tuple[int, Past]]) -> _Place | None:
        """The row that holds most of what another begins with: one that runs, or the kept one that was used last.

        Some tokens more do not count: rows that begin with the same one are fed in one pass.
        """
        places = [_Place(coming.count_usable(past), row, past) for row, past in begun if past.head == coming.head]
        places += [
            _Place(coming.count_usable(kept.past), kept.row, kept.past, kept) for kept in self._alike(index, coming)
        ]
        return max(reversed(places), key=lambda place: place.num_tokens // NEARLY_SAME, default=None)

    def _put(self, index: int, track: Track, place: _Place) -> None:
        """Have a track begin behind tokens of a row; where that cannot be, it reads them itself."""
        try:
            fork = self._members[index].fork(place.row, len(place.past) - place.num_tokens)
        except MemberError:
            fork = None
            if place.kept is not None:
                self._drop(place.kept)
        else:
            if place.kept is not None:
                self._touch(place.kept)
        if fork is not None:
            track.begin_behind(fork.row, place.past, len(place.past) - fork.num_back)

    def _alike(self, index: int, past: Past) -> Iterator[_Kept]:
        """The kept rows of a member that have enough tokens in common with a row."""
        return (kept for kept in self._kept if kept.member == index and kept.past.head == past.head)

    def _touch(self, kept: _Kept) -> None:
        """It was used last."""
        self._kept[kept] = self._kept.pop(kept)

    def _drop(self, kept: _Kept) -> None:
        del self._kept[kept]
        self._release(kept.member, kept.row)

    def _release(self, index: int, row: int) -> None:
        """Free a row; where the member fails, the guard has told so."""
        with suppress(MemberError):
            self._members[index].release(row)
