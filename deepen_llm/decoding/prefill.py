"""Long prompts are read in pieces while others are being answered, so that no answer waits for them for long.

A step that also reads prompts takes as long as both. So it reads no more tokens of them than take about `SHARE` times
an ordinary step, in the order of arrival; a sequence joins the others once its members have read what they are to be
asked for. How many tokens that is shows as they are read: the number is doubled or halved. Prompts beside which nothing
is answered are not cut: a whole one is read fastest.
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
FIRST, LEAST, MOST = 64, 16, 4096
"""Tokens to begin with, and the fewest and most that a step reads. Fewer waste most of a pass over the weights."""
INERTIA = 0.8
"""How much of what is known of an ordinary step's time stays as it is with every further step."""


@final
class Prefill:
    """How many tokens of prompts the next step reads."""

    def __init__(self, num_tokens: int | None = None) -> None:
        """`num_tokens` is the most that a step reads of each member's prompts; None: as many as its time allows."""
        self.num_tokens = FIRST if num_tokens is None else num_tokens
        self._is_fixed = num_tokens is not None
        self._step_s = 0.0
        self._is_plain = True
        """Whether this step has fed no prompt so far."""

    @contextmanager
    def time_step(self, *, is_pass: bool) -> Iterator[None]:
        """Learn from a step that reads no prompts how long one takes, if it takes a pass at all."""
        self._is_plain = is_pass
        begun_s = time.perf_counter()
        yield
        if self._is_plain:
            self.note_step(time.perf_counter() - begun_s)

    @contextmanager
    def time_pieces(self, sequences: Sequence[RunningSequence], members: Sequence[int]) -> Iterator[None]:
        """Learn from the pieces of these sequences' prompts how many tokens may be read in a step."""
        nums = (sum(len(s.tracks[index].next_ids) for s in sequences) for index in members)
        num_tokens, begun_s = max(nums), time.perf_counter()
        yield
        self.note_pieces(num_tokens, time.perf_counter() - begun_s)

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
        self._is_plain &= not any(waiting.values())
        if not is_waited_for and all(waiting.values()):
            return list(sequences), []
        room = dict.fromkeys(members, self.num_tokens)
        joining: list[RunningSequence] = []
        reading: list[RunningSequence] = []
        for sequence, unread in waiting.items():
            fits = all(len(sequence.tracks[index].pending) <= room[index] for index in unread)
            (joining if fits else reading).append(sequence)
            for index in unread:
                room[index] -= sequence.tracks[index].take_piece(room[index])
        return joining, reading

    def note_step(self, seconds: float) -> None:
        """A step without prompts took so long."""
        self._step_s = INERTIA * self._step_s + (1 - INERTIA) * seconds if self._step_s else seconds

    def note_pieces(self, num_tokens: int, seconds: float) -> None:
        """So many tokens of prompts were read in so long, by the member that read most."""
        if self._is_fixed or not self._step_s:
            return
        allowed_s = SHARE * self._step_s
        if seconds > allowed_s:
            self.num_tokens = max(self.num_tokens // 2, LEAST)
        elif num_tokens == self.num_tokens and 2 * seconds < allowed_s:
            self.num_tokens = min(self.num_tokens * 2, MOST)


def _unread(sequence: RunningSequence, members: Sequence[int]) -> list[int]:
    """The members that are to be fed and have not read the whole prompt."""
    return [index for index in members if index not in sequence.resting and sequence.tracks[index].is_reading]
