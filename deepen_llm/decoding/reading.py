"""What every member says at one step, read as text: extended where real mass hangs on it, in batched passes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from deepen_llm.decoding.boundary import Boundary
from deepen_llm.decoding.sequence import RunningSequence
from deepen_llm.errors import DeepenError, MemberError, NumericalError
from deepen_llm.fusion.base import Reading
from deepen_llm.members.base import Member
from deepen_llm.reading import ReadingBounds, TextReader
from deepen_llm.reading.row import Asking, Path, RowReading

logger = logging.getLogger(__name__)

Errors = dict[int, DeepenError]
"""What went wrong, by the place of the sequence."""


@final
class EnsembleReader:
    """Reads the members' distributions in the main model's tokens; every sequence keeps its members' boundaries."""

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
        self._forbidden = ~members[main].allowed
        self._told: set[int] = set()

    def read(
        self, sequences: Sequence[RunningSequence], logits: Sequence[Tensor]
    ) -> tuple[list[Reading | None], Errors]:
        """One reading a member, None for the main model.

        Args:
            sequences: Those that take part in the step, each told what its reading took.
            logits: `(len(sequences), num_logits)` a member.

        Returns:
            The readings, and the errors of sequences for which a member failed in a forward pass; what is read there
            means nothing.
        """
        errors: Errors = {}
        own = logits[self._main].float()
        expected = own.masked_fill(self._forbidden.to(own.device), -torch.inf).softmax(dim=-1)
        readings = [
            None if index == self._main else self._read_member(index, sequences, rows.float(), expected, errors)
            for index, rows in enumerate(logits)
        ]
        return readings, errors

    def _read_member(
        self, index: int, sequences: Sequence[RunningSequence], logits: Tensor, expected: Tensor, errors: Errors
    ) -> Reading:
        reader = self._readers[index]
        if reader is None:
            return Reading(logits.masked_fill(self._forbidden.to(logits.device), -torch.inf).softmax(dim=-1), None)
        probs, expected = reader.to_probs(logits), expected.to(logits.device)
        silent: list[int] = []
        asking: dict[int, Asking] = {}
        for row, (sequence, is_open) in enumerate(zip(sequences, reader.find_open(probs), strict=True)):
            boundary = self._move_boundary(index, sequence, reader, probs[row])
            if sequence.tracks[index].alignment.ends_unknown:
                silent.append(row)
            elif boundary.opened or (is_open and reader.is_expected_to_grow(probs[row], expected[row])):
                asking[row] = reader.follow(
                    boundary.opened,
                    boundary.known,
                    boundary.max_length,
                    own_path=boundary.own_path,
                    tail=self._tail(sequence, len(boundary.opened)),
                    expected=expected[row],
                )
        found = self._follow(index, reader, sequences, asking, errors)
        for row, reading in found.items():
            sequences[row].note_reading(index, reading)
        silent += [row for row, reading in found.items() if not reading.speaks]
        read, rest = _gather(reader, probs, expected, found)
        if silent and rest is not None:
            rest[silent] = 0.0
        return Reading(read, rest, self._silence(index, sequences, silent) if silent else None)

    def _tail(self, sequence: RunningSequence, num_bytes: int) -> Path:
        """The last tokens that the main model chose, spelling at least so many bytes; none where it chose too few.

        A prompt may end anywhere, inside a word as well: how its last tokens were cut says nothing about what follows.
        """
        vocabulary = self._members[self._main].vocabulary
        tail: list[int] = []
        for token_id in reversed(sequence.chosen_ids if num_bytes else ()):
            tail.append(token_id)
            num_bytes -= len(vocabulary.tokens[token_id] or b"")
            if num_bytes <= 0:
                return tuple(reversed(tail))
        return ()

    def _move_boundary(self, index: int, sequence: RunningSequence, reader: TextReader, probs: Tensor) -> Boundary:
        """The sequence's boundary of one member; `probs` `(num_logits,)` are what that says now."""
        boundary = sequence.boundaries.get(index)
        if boundary is None:
            boundary = sequence.boundaries[index] = Boundary(sequence.tracks[index], reader.prefixes)
        boundary.move(probs)
        return boundary

    def _follow(
        self,
        index: int,
        reader: TextReader,
        sequences: Sequence[RunningSequence],
        asking: dict[int, Asking],
        errors: Errors,
    ) -> dict[int, RowReading]:
        """Answer what the rows' readings ask for, all rows in one pass at a time, until every one is done."""
        done: dict[int, RowReading] = {}
        answers: Mapping[int, dict[Path, Tensor] | None] = dict.fromkeys(asking)
        while answers:
            wanted: dict[int, list[Path]] = {}
            for row, answer in answers.items():
                try:
                    wanted[row] = next(asking[row]) if answer is None else asking[row].send(answer)
                except StopIteration as stop:
                    done[row] = stop.value
            answers = self._ask(index, reader, sequences, wanted, errors) if wanted else {}
        return done

    def _ask(
        self,
        index: int,
        reader: TextReader,
        sequences: Sequence[RunningSequence],
        wanted: Mapping[int, list[Path]],
        errors: Errors,
    ) -> dict[int, dict[Path, Tensor] | None]:
        """What the member says after the rows' paths, in one pass; rows where it fails get an error instead."""
        member = self._members[index]
        asked = [(row, path) for row, paths in wanted.items() for path in paths]
        try:
            logits = member.peek([sequences[row].boundaries[index].branch(path) for row, path in asked]).float()
        except Exception as error:
            logger.exception("member %r failed; the sequences that it was extended for fail", member.name)
            reason = f"member {member.name!r} failed while its tokens were extended: {type(error).__name__}: {error}"
            failed = MemberError(f"{reason}; try again, or FusionConfig(reading='token')")
            failed.__cause__ = error
            errors.update(dict.fromkeys(wanted, failed))
            return {}
        if not logits.amax().item() < torch.inf:  # NaN is the greatest of all, and not less
            is_sound = (logits < torch.inf).all(dim=-1).tolist()
            for row in {row for (row, _), sound in zip(asked, is_sound, strict=True) if not sound}:
                errors[row] = NumericalError(
                    f"NaN or infinity in the logits of {member.name!r} at step {sequences[row].num_steps}, while its "
                    "tokens were extended: try another dtype, such as float32"
                )
        said = dict(zip(asked, reader.to_probs(logits), strict=True))
        return {row: {path: said[row, path] for path in paths} for row, paths in wanted.items() if row not in errors}

    def _silence(self, index: int, sequences: Sequence[RunningSequence], silent: Sequence[int]) -> Tensor:
        """Where the member speaks, `(len(sequences),)` bool; the first time that it does not, this is logged."""
        if index not in self._told:
            self._told.add(index)
            logger.warning(
                "member %r cannot express the text at step %d of an answer, or not be read behind it: it abstains, "
                "there and wherever that happens again, and the main model gets its weight",
                self._members[index].name,
                sequences[silent[0]].num_steps,
            )
        speaks = torch.ones(len(sequences), dtype=torch.bool)
        speaks[list(silent)] = False
        for row in silent:
            sequences[row].note_abstention()
        return speaks


def _gather(
    reader: TextReader, probs: Tensor, expected: Tensor, found: Mapping[int, RowReading]
) -> tuple[Tensor, Tensor | None]:
    """The readings of all rows as `TextReader.read_closed` gives them, those that were followed among them."""
    if len(found) == len(probs):
        rows = [found[row] for row in range(len(probs))]
        rests = [torch.zeros_like(probs[0]) if row.rest is None else row.rest for row in rows]
        return torch.stack([row.probs for row in rows]), torch.stack(rests) if reader.has_rest else None
    read, rest = reader.read_closed(probs, expected)
    for row, reading in found.items():
        read[row] = reading.probs
        if rest is not None:
            rest[row] = 0.0 if reading.rest is None else reading.rest
    return read, rest
