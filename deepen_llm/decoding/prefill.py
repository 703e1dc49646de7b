"""Long prompts are read in pieces while others are being answered, so that no answer waits for them for long.

A step that also reads prompts takes as long as both. So it reads no more tokens of them than take about `SHARE` times
an ordinary step, in the order of arrival; a sequence joins the others once its members have read what they are to be
asked for. How many tokens that is shows as they are read: twice as many are tried, or half as many. Prompts beside
which nothing is answered are not cut: a whole one is read fastest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

from deepen_llm.decoding.sequence import RunningSequence

SHARE = 1.5
"""How many ordinary steps the prompts of a step may take: so between two tokens of an answer pass at most 2.5, and 3
where a step takes longer than foreseen."""
LEAST, MOST = 16, 4096
"""The fewest tokens that a step reads, with which it begins, and the most. Fewer waste most of a pass."""
FIRST_OF_SMALL = 128
"""Small members begin with so many: their passes take as long over many tokens as over few."""
INERTIA = 0.8
"""How much of what is known of the time of a step, or of a piece, stays as it is with every further one."""
NEARLY, FADING = 0.8, 0.995
"""Twice as many tokens are tried where those so far take less than this share of what they may. Where that was too
long, it is tried anew once what it took, faded by this with every piece, would do."""


@final
class Prefill:
    """How many tokens of prompts the next step reads."""

    def __init__(self, num_tokens: int | None = None, *, are_small: bool = False) -> None:
        """`num_tokens` is the most that a step reads of each member's prompts; None: as many as its time allows.

        Before anything is known of that, it depends on whether all members are small.
        """
        first = FIRST_OF_SMALL if are_small else LEAST
        self.num_tokens = first if num_tokens is None else num_tokens
        self._is_fixed = num_tokens is not None
        self._step_s = 0.0
        self._piece_s: dict[int, float] = {}
        """How long pieces took, by their number of tokens; of those that took too long for a while only."""
        self._is_plain = True
        """Whether nothing joins in this step, whose prompt would be counted as the step's own time."""
        self._reading_s = 0.0
        """How long pieces have been read in this step."""

    @contextmanager
    def time_step(self, *, is_pass: bool) -> Iterator[None]:
        """Learn how long a step takes beside the pieces that it reads, if it takes a pass at all."""
        self._is_plain, self._reading_s = is_pass, 0.0
        begun_s = time.perf_counter()
        yield
        if self._is_plain:
            self.note_step(time.perf_counter() - begun_s - self._reading_s)

    @contextmanager
    def time_pieces(self, sequences: Sequence[RunningSequence], members: Sequence[int]) -> Iterator[None]:
        """Learn from the pieces of these sequences' prompts how many tokens may be read in a step."""
        nums = (sum(len(s.tracks[index].next_ids) for s in sequences) for index in members)
        num_tokens, begun_s = max(nums), time.perf_counter()
        yield
        seconds = time.perf_counter() - begun_s
        self._reading_s += seconds
        self.note_pieces(num_tokens, seconds)

    def split(
        self, sequences: Sequence[RunningSequence], members: Sequence[int], *, is_waited_for: bool = False
    ) -> tuple[list[RunningSequence], list[RunningSequence]]:
        """The sequences that take part in the step, and those of whose prompts it reads a piece or nothing.

        The tracks of the latter are told how much that is.

        Args:
            sequences: In the order of arrival.
            members: Those that are to be fed, by position.
            is_waited_for: Others than these are being answered.
        """
        for track in (track for sequence in sequences for track in sequence.tracks):
            track.take_piece(None)
        waiting = {s: _unread(s, members) for s in sequences}
        if not is_waited_for and all(waiting.values()):
            self._is_plain &= not sequences
            return list(sequences), []
        room = dict.fromkeys(members, self.num_tokens)
        joining: list[RunningSequence] = []
        reading: list[RunningSequence] = []
        for sequence, unread in waiting.items():
            fits = all(len(sequence.tracks[index].pending) <= room[index] for index in unread)
            (joining if fits else reading).append(sequence)
            for index in unread:
                room[index] -= sequence.tracks[index].take_piece(room[index])
        self._is_plain &= not any(waiting[sequence] for sequence in joining)
        return joining, reading

    def note_step(self, seconds: float) -> None:
        """A step took so long, the prompts that it read left aside."""
        self._step_s = _blend(self._step_s, seconds)

    def note_pieces(self, num_tokens: int, seconds: float) -> None:
        """So many tokens of prompts were read in so long, by the member that read most."""
        size = self.num_tokens
        if self._is_fixed or not self._step_s or num_tokens != size:
            return
        self._piece_s[size] = _blend(self._piece_s.get(size, 0.0), seconds)
        self._piece_s = {of: taken_s if of == size else taken_s * FADING for of, taken_s in self._piece_s.items()}
        allowed_s, taken_s = SHARE * self._step_s, self._piece_s[size]
        if taken_s > allowed_s and size > LEAST:
            self.num_tokens = size // 2
        elif taken_s < NEARLY * allowed_s and self._piece_s.get(2 * size, 0.0) <= allowed_s and size < MOST:
            self.num_tokens = size * 2


def _blend(before: float, seconds: float) -> float:
    return INERTIA * before + (1 - INERTIA) * seconds if before else seconds


def _unread(sequence: RunningSequence, members: Sequence[int]) -> list[int]:
    """The members that are to be fed and have not read the whole prompt."""
    return [index for index in members if index not in sequence.resting and sequence.tracks[index].is_reading]
