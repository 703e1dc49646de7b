"""What every member says at one step, read as text: extended where real mass hangs on it, in batched passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from deepen_llm.decoding.boundary import Boundary
from deepen_llm.decoding.sequence import RunningSequence
from deepen_llm.decoding.track import Track
from deepen_llm.errors import MemberError
from deepen_llm.fusion.base import Reading
from deepen_llm.members.base import Branch, Member
from deepen_llm.reading import ReadingBounds, TextReader
from deepen_llm.reading.reader import Asking, Path, RowReading

NUM_AHEAD = 32
"""Where a member's context has room for fewer tokens than this, nothing is followed any more."""


@final
class EnsembleReader:
    """Reads the members' distributions in the main model's tokens; every track keeps its boundary from step to step."""

    def __init__(self, members: Sequence[Member], main: int, bounds: ReadingBounds) -> None:
        """Make the tables. A member with the main model's own vocabulary needs none: its tokens are what they say."""
        self._members = tuple(members)
        self._main = main
        vocabulary = members[main].vocabulary
        self._readers = [
            None
            if member.vocabulary.fingerprint == vocabulary.fingerprint
            else TextReader(member.vocabulary, vocabulary, bounds)
            for member in members
        ]
        self._allowed = members[main].allowed
        self._boundaries: WeakKeyDictionary[Track, Boundary] = WeakKeyDictionary()

    def read(self, sequences: Sequence[RunningSequence], logits: Sequence[Tensor]) -> list[Reading | None]:
        """One reading a member, None for the main model.

        Args:
            sequences: Those that take part in the step, each told what its reading took.
            logits: `(len(sequences), num_logits)` a member.

        Raises:
            MemberError: A member failed in a forward pass.
        """
        return [
            None if index == self._main else self._read_member(index, sequences, rows)
            for index, rows in enumerate(logits)
        ]

    def _read_member(self, index: int, sequences: Sequence[RunningSequence], logits: Tensor) -> Reading:
        reader = self._readers[index]
        if reader is None:
            forbidden = ~self._allowed.to(logits.device)
            return Reading(logits.float().masked_fill(forbidden, -torch.inf).softmax(dim=-1), None)
        probs = reader.to_probs(logits)
        read, rest = reader.read_closed(probs)
        speaks = torch.ones(len(sequences), dtype=torch.bool)
        asking: dict[int, Asking] = {}
        for row, (sequence, is_open) in enumerate(zip(sequences, reader.find_open(probs), strict=True)):
            track = sequence.tracks[index]
            boundary = self._boundary(track, reader)
            boundary.move(probs[row])
            has_room = track.num_fed + NUM_AHEAD <= track.member.context_length
            if (boundary.opened or is_open) and has_room:
                asking[row] = reader.follow(boundary.opened, boundary.known)
            elif boundary.opened:
                speaks[row] = False
        for row, found in self._follow(index, reader, sequences, asking).items():
            sequences[row].note_reading(index, found)
            read[row] = found.probs
            if rest is not None:
                rest[row] = 0.0 if found.rest is None else found.rest
            speaks[row] = bool(found.probs.any()) or found.rest is not None
        return Reading(read, rest, None if bool(speaks.all()) else speaks)

    def _follow(
        self, index: int, reader: TextReader, sequences: Sequence[RunningSequence], asking: Mapping[int, Asking]
    ) -> dict[int, RowReading]:
        """Answer what the rows' readings ask for, all rows in one pass at a time, until every one is done."""
        done: dict[int, RowReading] = {}
        paths: dict[int, list[Path]] = {}
        answers: dict[int, dict[Path, Tensor] | None] = dict.fromkeys(asking)
        while answers:
            for row, answer in answers.items():
                try:
                    paths[row] = next(asking[row]) if answer is None else asking[row].send(answer)
                except StopIteration as stop:
                    done[row] = stop.value
                    paths.pop(row, None)
            asked = [(row, path) for row, wanted in paths.items() for path in wanted]
            if not asked:
                break
            boundaries = {row: self._boundaries[sequences[row].tracks[index]] for row in paths}
            logits = self._peek(index, [boundaries[row].branch(path) for row, path in asked])
            said = dict(zip(asked, reader.to_probs(logits), strict=True))
            answers = {row: {path: said[row, path] for path in wanted} for row, wanted in paths.items()}
        return done

    def _peek(self, index: int, branches: Sequence[Branch]) -> Tensor:
        member = self._members[index]
        try:
            return member.peek(branches)
        except Exception as error:
            reason = f"member {member.name!r} failed while its tokens were extended: {type(error).__name__}: {error}"
            raise MemberError(f"{reason}; try again, or FusionConfig(reading='token')") from error

    def _boundary(self, track: Track, reader: TextReader) -> Boundary:
        if track not in self._boundaries:
            self._boundaries[track] = Boundary(track, reader)
        return self._boundaries[track]
