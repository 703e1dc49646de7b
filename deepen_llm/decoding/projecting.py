"""The other members' distributions at one step, projected onto the main model's tokens as text, in batched passes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import final

import torch
from torch import Tensor

from deepen_llm.decoding.outlook import look_ahead
from deepen_llm.decoding.sequence import RunningSequence, name_step
from deepen_llm.decoding.track import Track
from deepen_llm.errors import DeepenError
from deepen_llm.fusion.base import Distribution
from deepen_llm.fusion.frame import FusionFrame
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.projection import ExpansionLimits, Projector
from deepen_llm.projection.foresight import Outlook
from deepen_llm.projection.results import Path, Projection, Queries

logger = logging.getLogger(__name__)

Errors = dict[RunningSequence, DeepenError]


@final
@dataclass(frozen=True, eq=False)
class Asked:
    """What one member gives some sequences."""

    sequences: Sequence[RunningSequence]
    """Those that take part; their tracks are told what the projection took."""
    logits: Tensor
    """`(len(sequences), num_logits)`."""
    main_probs: Tensor
    """The main model's probs `(len(sequences), num_main_logits)`."""


@final
@dataclass(eq=False)
class _Expanding:
    """One member's distributions while tokens of some rows are expanded."""

    index: int
    projector: Projector
    sequences: Sequence[RunningSequence]
    probs: Tensor
    """`(rows, num_logits)`."""
    main_probs: Tensor
    """`(rows, num_main_logits)`, on the member's device."""
    queries: dict[int, Queries] = field(default_factory=dict)
    """By row, of those that are not done."""
    answers: dict[int, dict[Path, Tensor] | None] = field(default_factory=dict)
    done: dict[int, Projection] = field(default_factory=dict)
    empty_rows: list[int] = field(default_factory=list)

    def advance(self) -> dict[int, list[Path]]:
        """Hand over the answers; the paths that are asked for next, by row."""
        wanted: dict[int, list[Path]] = {}
        for row, answer in self.answers.items():
            queries = self.queries[row]
            try:
                wanted[row] = next(queries) if answer is None else queries.send(answer)
            except StopIteration as stop:
                self.done[row] = stop.value
        self.answers = {}
        return wanted


@final
class EnsembleProjector:
    """Projects the members' distributions; every track keeps its member's boundary."""

    def __init__(
        self,
        members: Sequence[GuardedMember],
        main: int,
        frame: FusionFrame,
        limits: ExpansionLimits,
        *,
        align_eos: bool = True,
    ) -> None:
        """Make the tables. A member with the main model's own vocabulary needs none: its tokens are the main model's.

        Args:
            members: The members.
            main: Position of the main model.
            frame: Reads the logits of members that need no projection.
            limits: How far tokens are expanded.
            align_eos: Every member's end-of-sequence counts as the main model's.
        """
        self._members = tuple(members)
        self._main, self._frame = main, frame
        vocabulary = members[main].vocabulary
        self._projectors = [
            None
            if member.vocabulary.fingerprint == vocabulary.fingerprint
            else Projector(member.vocabulary, vocabulary, limits, align_eos=align_eos)
            for member in members
        ]
        self._warned: set[int] = set()

    def project(self, asked: Mapping[int, Asked]) -> tuple[list[Distribution], Errors]:
        """One distribution per member that was asked, over the sequences for which it was.

        Returns:
            The distributions, and the errors of sequences for which a member failed while its tokens were expanded;
            what their rows hold means nothing.
        """
        found: dict[int, Distribution] = {}
        expanding: list[_Expanding] = []
        for index, one in asked.items():
            projector = self._projectors[index]
            if projector is None:
                found[index] = self._frame.read_namesake(index, one.logits)
            else:
                expanding.append(self._begin(index, projector, one))
        errors: Errors = {}
        while any(member.answers for member in expanding):
            self._ask(expanding, errors)
        for member in expanding:
            found[member.index] = self._finish(member)
        return [found[index] for index in asked], errors

    def _begin(self, index: int, projector: Projector, asked: Asked) -> _Expanding:
        """Find the rows in which tokens have to be expanded."""
        probs, main_probs = projector.to_probs(asked.logits.float()), asked.main_probs.to(asked.logits.device)
        member = _Expanding(index, projector, asked.sequences, probs, main_probs)
        for row, (sequence, is_open) in enumerate(zip(asked.sequences, projector.find_open(member.probs), strict=True)):
            track, probs, expected = sequence.tracks[index], member.probs[row], member.main_probs[row]
            track.reach_text(probs)
            pending = track.boundary.pending
            if track.alignment.ends_unknown:
                member.empty_rows.append(row)
            elif pending or (is_open and projector.is_expected_to_grow(probs, expected)):
                member.answers[row] = None
                member.queries[row] = projector.expand(
                    pending,
                    track.boundary.known,
                    track.member.context_length - track.boundary.num_before,
                    own_path=track.boundary.own_path,
                    tail=sequence.last_tokens(len(pending)),
                    expected=expected,
                    outlook=self._look_ahead(track, sequence.tracks[self._main], projector),
                )
        return member

    def _look_ahead(self, track: Track, main: Track, projector: Projector) -> Outlook:
        """What is known of a text beyond its end."""

        def to_expected(logits: Tensor) -> Tensor:
            return self._frame.read_main(logits).exp().to(track.member.device)

        return look_ahead(track, main, lambda logits: projector.to_probs(logits.float()), to_expected)

    def _ask(self, expanding: Sequence[_Expanding], errors: Errors) -> None:
        """Answer what the rows ask for next: one pass per member, all members at the same time."""
        started = []
        for member in expanding:
            if wanted := member.advance():
                asked = [(row, path) for row, paths in wanted.items() for path in paths]
                branches = [member.sequences[row].tracks[member.index].branch(path) for row, path in asked]
                started.append((member, wanted, asked, self._members[member.index].start_peek(branches)))
        for member, wanted, asked, peek in started:
            try:
                logits = peek.result(partial(name_step, [member.sequences[row] for row, _ in asked]))
            except DeepenError as error:
                errors.update({member.sequences[row]: error for row in wanted})
                continue
            errors.update({member.sequences[asked[place][0]]: error for place, error in logits.errors.items()})
            rows = member.projector.to_probs(logits.tensor.float())
            probs = dict(zip(asked, rows, strict=True))
            member.answers = {
                row: {path: probs[row, path] for path in paths}
                for row, paths in wanted.items()
                if member.sequences[row] not in errors
            }

    def _finish(self, member: _Expanding) -> Distribution:
        """The distribution of all rows, those that were expanded among them."""
        sequences = member.sequences
        for row, projection in member.done.items():
            sequences[row].tracks[member.index].note_projection(projection)
            if not projection.has_mass:
                member.empty_rows.append(row)
        for sequence, probs in zip(sequences, member.probs, strict=True):
            sequence.tracks[member.index].note_text(probs)
        for row in member.empty_rows:
            sequences[row].tracks[member.index].num_abstained += 1
        if member.empty_rows:
            self._warn_once(member.index, sequences[member.empty_rows[0]].num_steps)
        projected, residual = _gather(member)
        return Distribution(member.index, projected.to(self._home), residual, tuple(member.empty_rows))

    @property
    def _home(self) -> torch.device:
        return self._frame.tokens[self._main].mask.device

    def _warn_once(self, index: int, step: int) -> None:
        if index not in self._warned:
            self._warned.add(index)
            logger.warning(
                "member %r cannot express the text at step %d of an answer, or not be projected after it: it abstains, "
                "there and wherever that happens again, and the main model gets its weight",
                self._members[index].name,
                step,
            )


def _gather(member: _Expanding) -> tuple[Tensor, Tensor | None]:
    """Probs over the main model's tokens and the residual, as `Projector.project_closed` gives them, of all rows."""
    probs, done = member.probs, member.done
    if len(done) == len(probs):
        rows = [done[row] for row in range(len(probs))]
        residuals = [torch.zeros_like(probs[0]) if row.residual is None else row.residual for row in rows]
        has_residual = member.projector.has_residual
        return torch.stack([row.probs for row in rows]), torch.stack(residuals) if has_residual else None
    if not done:
        return member.projector.project_closed(probs, member.main_probs)
    left = torch.tensor([row for row in range(len(probs)) if row not in done], device=probs.device)
    closed, residual = member.projector.project_closed(probs[left], member.main_probs[left])
    projected = closed.new_empty(len(probs), closed.shape[1]).index_copy_(0, left, closed)
    if residual is not None:
        residual = torch.zeros_like(probs).index_copy_(0, left, residual)
    for row, projection in done.items():
        projected[row] = projection.probs
        if residual is not None and projection.residual is not None:
            residual[row] = projection.residual
    return projected, residual
