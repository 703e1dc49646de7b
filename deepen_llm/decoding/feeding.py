"""Feeding the members: their tracks' new tokens, all members at the same time, long prompts in pieces."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import accumulate
from typing import final

import torch

from deepen_llm.decoding.prefill import Prefill
from deepen_llm.decoding.prefixes import Prefixes
from deepen_llm.decoding.sequence import RunningSequence, name_step
from deepen_llm.decoding.track import Track
from deepen_llm.errors import DeepenError
from deepen_llm.members.guarded import GuardedMember, GuardedPass

OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)


@final
class Feeder:
    """Starts the members' forward passes, and tells the tracks what came of them."""

    def __init__(
        self,
        members: Sequence[GuardedMember],
        *,
        are_projected: bool,
        prefill: Prefill | None = None,
        prefixes: Prefixes | None = None,
    ) -> None:
        """Take the parts.

        Args:
            members: Those to be fed.
            are_projected: Whether distributions are projected as text, for which what comes after each token counts.
            prefill: Says how much of prompts a step reads beside answers; None: as its time allows.
            prefixes: Where rows begin, and what becomes of them; None: with nothing, and nothing is kept.
        """
        self._members, self._are_projected = tuple(members), are_projected
        self._prefill = prefill or Prefill()
        self.prefixes = prefixes or Prefixes(members, 0)
        """What rows of requests that are done hold for others."""
        self.seconds = [0.0] * len(members)
        """How long each member's passes that feed rows have been waited for, at their start and for their result."""

    def time_step(self, *, is_pass: bool) -> AbstractContextManager[None]:
        """Take the time of a step, by which prompts are cut into pieces: see `Prefill.time_step`."""
        return self._prefill.time_step(is_pass=is_pass)

    def feed_in_pieces(
        self,
        indices: Sequence[int],
        sequences: Sequence[RunningSequence],
        failed: dict[RunningSequence, DeepenError],
        *,
        is_waited_for: bool = False,
    ) -> list[RunningSequence]:
        """Feed members, and return the sequences that can go on: long prompts take more steps. See `Prefill.split`.

        Before, rows begin behind what others hold, so that what is left of their prompts counts.
        """
        for index in indices:
            asked = [s for s in sequences if index not in s.resting and s.tracks[index].pending]
            with self._clock(index):
                self._begin(index, asked, sequences)
        joining, reading = self._prefill.split(sequences, indices, is_waited_for=is_waited_for)
        if reading:
            with self._prefill.time_pieces(reading, indices):
                self.feed(indices, reading, failed)
        self.feed(indices, joining, failed)
        return [sequence for sequence in joining if sequence not in failed]

    def feed(
        self, indices: Iterable[int], sequences: Sequence[RunningSequence], failed: dict[RunningSequence, DeepenError]
    ) -> None:
        """Feed members the tokens that they have not seen, all members at the same time.

        Of sequences with the same beginning one is fed first; the others then begin behind what it has read.
        """
        waiting = {
            index: [s for s in sequences if index not in s.resting and _needs_pass(s.tracks[index])]
            for index in indices
        }
        while any(waiting.values()):
            waiting = self._feed_first(waiting, sequences, failed)

    def _feed_first(
        self,
        wanted: Mapping[int, Sequence[RunningSequence]],
        sequences: Sequence[RunningSequence],
        failed: dict[RunningSequence, DeepenError],
    ) -> dict[int, list[RunningSequence]]:
        """Feed the sequences of every member but those that had better wait; these come back.

        Rows that begin go in a pass of their own: a prompt for which there is no memory, say, fails no answer that
        runs.
        """
        started, waiting = [], {}
        for index, fed in wanted.items():
            with self._clock(index):
                fed, waiting[index] = self._begin(index, fed, [s for s in sequences if s not in failed])
            fed = _make_ready(index, fed, failed)
            for begins in (False, True):
                if those := [s for s in fed if s.tracks[index].is_reading == begins]:
                    with self._clock(index):
                        started.append((index, those, self._start(index, those)))
        for index, fed, running in started:
            tracks = [sequence.tracks[index] for sequence in fed]
            num_told = [track.num_told if running.tells_each else 1 for track in tracks]
            ends = list(accumulate(num_told))
            rows = [sequence for sequence, num in zip(fed, num_told, strict=True) for _ in range(num)]
            try:
                with self._clock(index):
                    logits = running.result(partial(name_step, rows))
            except DeepenError as error:
                failed.update(dict.fromkeys(fed, error))
                if isinstance(error.__cause__, OUT_OF_MEMORY):
                    self.prefixes.clear()  # whoever tries again finds more of it
                continue
            failed.update({rows[place]: error for place, error in logits.errors.items()})
            for track, end, num in zip(tracks, ends, num_told, strict=True):
                if running.tells_each:
                    track.note_read_ahead(logits.tensor, end - num)
                else:
                    track.note_fed(logits.tensor, end - 1, logits.measured.get(track.row))
        return {index: [s for s in those if s not in failed] for index, those in waiting.items()}

    def _begin(
        self, index: int, sequences: Sequence[RunningSequence], running: Sequence[RunningSequence]
    ) -> tuple[list[RunningSequence], list[RunningSequence]]:
        """Those to be fed now, begun behind what the member has read already, and those to be fed after them."""
        tracks = [s.tracks[index] for s in sequences if not s.tracks[index].fed]
        waiting = self.prefixes.begin(index, tracks, [s.tracks[index] for s in running]) if tracks else ()
        return (
            [s for s in sequences if s.tracks[index] not in waiting],
            [s for s in sequences if s.tracks[index] in waiting],
        )

    @contextmanager
    def _clock(self, index: int) -> Iterator[None]:
        """Count what passes as a member's time."""
        begun_s = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[index] += time.perf_counter() - begun_s

    def _start(self, index: int, fed: Sequence[RunningSequence]) -> GuardedPass:
        """A pass that was started over the rows of some sequences."""
        tracks = [sequence.tracks[index] for sequence in fed]
        tells_each = self._are_projected and self._members[index].tells_each
        if any(track.draft or (tells_each and track.num_fed and track.num_measured) for track in tracks):
            tokens = {track.row: [*track.next_ids, *track.draft] for track in tracks}
            return self._members[index].start_extend_each(tokens, {track.row: track.num_told for track in tracks})
        measured = {track.row: track.num_measured for track in tracks if track.num_measured}
        return self._members[index].start_extend({track.row: track.next_ids for track in tracks}, measured)


def _needs_pass(track: Track) -> bool:
    """Whether a track has tokens to be fed; those that were foreseen are taken in."""
    if track.is_foreseen:
        track.take_foreseen()
    return bool(track.next_ids or track.draft)


def _make_ready(
    index: int, sequences: Sequence[RunningSequence], failed: dict[RunningSequence, DeepenError]
) -> list[RunningSequence]:
    """The sequences whose row of a member holds the text and no more, opened where it was not; the others fail."""
    ready = []
    for sequence in sequences:
        track = sequence.tracks[index]
        try:
            _ = track.row
            if track.pending:
                track.drop_ahead()
        except DeepenError as error:
            failed[sequence] = error
        else:
            ready.append(sequence)
    return ready
