"""One step of a batch: feed the members, choose what to fuse, project, fuse."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from typing import final

import torch
from torch import Tensor

from deepen_llm.decoding.gating import Gate
from deepen_llm.decoding.prefill import Prefill
from deepen_llm.decoding.prefixes import Prefixes
from deepen_llm.decoding.projecting import Asked, EnsembleProjector
from deepen_llm.decoding.resting import is_certain
from deepen_llm.decoding.sequence import RunningSequence, name_step
from deepen_llm.decoding.speculation.speculator import Speculator
from deepen_llm.decoding.track import Track
from deepen_llm.errors import DeepenError
from deepen_llm.fusion.base import Distributions, Step
from deepen_llm.fusion.frame import FusionFrame
from deepen_llm.fusion.words import WordWeigher
from deepen_llm.members.guarded import GuardedMember, GuardedPass

OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)


@final
@dataclass(eq=False)
class StepResult:
    """What a step came to."""

    sequences: list[RunningSequence]
    """Those that can go on, in the order of the rows."""
    logprobs: Tensor
    """What to choose from: `(len(sequences), num_main_logits)`, float32, on the main model's device."""
    failed: dict[RunningSequence, DeepenError]
    """The others, and why."""
    distributions: Distributions | None = None
    """What the members gave, the sequences of `fused_rows` among it."""
    fused_rows: list[int] = field(default_factory=list)
    """For each of the sequences its row of the distributions, -1 where it was left to the main model."""

    def given(self, token_ids: Sequence[int]) -> list[list[float] | None]:
        """The probs that every member gave the chosen tokens, one list per sequence; None where it was not fused."""
        if self.distributions is None:
            return [None] * len(self.sequences)
        probs = self.distributions.probs
        ids = torch.zeros(len(probs), dtype=torch.int64)
        for row, token_id in zip(self.fused_rows, token_ids, strict=True):
            if row >= 0:
                ids[row] = token_id
        given: list[list[float]] = self.distributions.given(ids.to(probs.device)).tolist()
        return [
            _silence(given[row], sequence.resting) if row >= 0 else None
            for row, sequence in zip(self.fused_rows, self.sequences, strict=True)
        ]


@final
class Stepper:
    """Takes steps. Everything that touches a member during a step happens here."""

    def __init__(
        self,
        members: Sequence[GuardedMember],
        main: int,
        frame: FusionFrame,
        gate: Gate,
        projector: EnsembleProjector | None = None,
        words: WordWeigher | None = None,
        speculator: Speculator | None = None,
        *,
        prefill: Prefill | None = None,
        prefixes: Prefixes | None = None,
    ) -> None:
        """Take the parts.

        Args:
            members: One forward pass each per step, and what projection takes.
            main: Position of the main model.
            frame: Makes one distribution of theirs.
            gate: Chooses the sequences to fuse.
            projector: Projects the other members' distributions as text; None fuses them token by token.
            words: Weighs what was projected word by word; None where nothing is.
            speculator: Has the members fed what may come next; None: they are fed the text alone.
            prefill: Says how much of prompts a step reads beside answers; None: as its time allows.
            prefixes: Where rows begin, and what becomes of them; None: with nothing, and nothing is kept.
        """
        self._members = tuple(members)
        self._prefill = prefill or Prefill()
        self._main, self._frame, self._gate, self._projector, self._words = main, frame, gate, projector, words
        self._speculator = speculator
        # Work on accelerators is asynchronous: what is started there first runs beside what the CPU computes after.
        order = sorted(range(len(members)), key=lambda index: members[index].device.type == "cpu")
        self._order = tuple(order)
        self._others = tuple(index for index in order if index != main)
        self.prefixes = prefixes or Prefixes(members, 0)
        """What rows of requests that are done hold for others."""
        self.num_steps = 0
        self.seconds = [0.0] * len(members)
        """How long each member's passes that feed rows have been waited for, at their start and for their result."""

    def choose_next(self, sequences: Sequence[RunningSequence]) -> Sequence[RunningSequence]:
        """Those of the sequences that take the next step: all, or those that need no pass for it, where there are."""
        foreseen = [] if self._speculator is None else list(filter(self._speculator.is_foreseen, sequences))
        return foreseen or sequences

    def run(self, sequences: Sequence[RunningSequence]) -> StepResult:
        """The distributions to choose the next token of every sequence from, for one at least.

        A sequence that still reads a long prompt beside answers is neither among those that go on nor failed.
        """
        self.num_steps += 1
        is_foreseen = self._speculator is not None and all(map(self._speculator.is_foreseen, sequences))
        with self._prefill.time_step(is_pass=not is_foreseen):
            return self._run(sequences)

    def _run(self, sequences: Sequence[RunningSequence]) -> StepResult:
        failed: dict[RunningSequence, DeepenError] = {}
        if not self._gate.asks_main_first:
            for sequence in sequences:
                sequence.choose_resting()
        if self._speculator is not None:
            self._speculator.prepare(sequences, lambda members, those: self._feed(members, those, failed), failed)
            sequences = [sequence for sequence in sequences if sequence not in failed]
        running = self._feed_in_pieces((self._main,) if self._gate.asks_main_first else self._order, sequences, failed)
        drawn = [sequence for sequence in running if sequence.drawn is not None]
        _draw(drawn, failed)
        running = [sequence for sequence in running if sequence.drawn is None]
        if not running:
            return StepResult([], torch.empty(0, 0), failed)
        logprobs = self._frame.read_main(self._gather(self._main, running))
        chosen = self._gate.choose(running, logprobs) if self._others else []
        if self._gate.asks_main_first:
            asked = [running[place] for place in chosen]
            fed = self._feed_in_pieces(self._others, asked, failed, is_waited_for=len(asked) < len(running))
            kept = [place for place, s in enumerate(running) if s in fed or s in failed or s not in asked]
            running, logprobs = [running[place] for place in kept], logprobs[kept]
            chosen = [place for place, sequence in enumerate(running) if sequence in fed]
        result = StepResult(running, logprobs, failed)
        for sequence in running:
            sequence.is_fused = False
        if chosen:
            self._fuse(chosen, result)
        return _without_failed(result)

    def _fuse(self, chosen: Sequence[int], result: StepResult) -> None:
        """Put the fused logprobs of the chosen places into the result."""
        sequences = [result.sequences[place] for place in chosen]
        is_whole = len(chosen) == len(result.sequences)
        places = None if is_whole else torch.tensor(chosen, device=result.logprobs.device)
        logprobs = result.logprobs if places is None else result.logprobs[places]
        given = Distributions(self._main, logprobs, logprobs.exp(), (), len(self._members))
        given = self._ask(sequences, [sequence.resting for sequence in sequences], given, result.failed)
        fused, result.distributions = self._combine(sequences, given, result.failed)
        doubtful = [sequence for sequence in _find_doubtful(sequences, fused) if sequence not in result.failed]
        if doubtful:
            rested = [s.resting if s in doubtful else frozenset() for s in sequences]
            for sequence in doubtful:
                sequence.wake()
            self._feed(self._others, doubtful, result.failed)
            skipped = [frozenset(self._others) - resting for resting in rested]
            given = self._ask(sequences, skipped, given, result.failed)
            fused, result.distributions = self._combine(sequences, given, result.failed)
        for sequence in sequences:
            sequence.is_fused = True
        result.logprobs = fused if places is None else result.logprobs.index_copy(0, places, fused)
        result.fused_rows = [-1] * len(result.sequences)
        for row, place in enumerate(chosen):
            result.fused_rows[place] = row

    def _ask(
        self,
        sequences: Sequence[RunningSequence],
        skipped: Sequence[Collection[int]],
        given: Distributions,
        failed: dict[RunningSequence, DeepenError],
    ) -> Distributions:
        """What the other members give beside what they have given, but those that each sequence skips.

        Sequences that fail on the way keep a row that means nothing.
        """
        asked: dict[int, Asked] = {}
        rows: dict[int, list[int]] = {}
        for index in self._others:
            places = [p for p, s in enumerate(sequences) if index not in skipped[p] and s not in failed]
            if places:
                those = [sequences[place] for place in places]
                probs = given.probs if len(places) == len(sequences) else given.probs[places]
                asked[index], rows[index] = Asked(those, self._gather(index, those), probs), places
        if self._projector is None:
            others = [self._frame.read_tokens(index, one.logits) for index, one in asked.items()]
        else:
            others, errors = self._projector.project(asked)
            failed.update(errors)
        return given.extended([other.on_rows(rows[other.member], len(sequences)) for other in others])

    def _combine(
        self,
        sequences: Sequence[RunningSequence],
        given: Distributions,
        failed: Collection[RunningSequence],
    ) -> tuple[Tensor, Distributions | None]:
        """The fused logprobs, and what the members give to words; None where nothing is weighed word by word.

        Members of a sequence that failed may not have seen its text: it is not read to them.
        """
        for sequence in sequences:
            if sequence not in failed:
                sequence.read_text()
        if self._words is None:
            weights = torch.tensor([sequence.word.weights.current for sequence in sequences], dtype=torch.float32)
            return self._frame.fuse(Step.build(given, weights), given.logprobs), None
        places = [sequence.word.place for sequence in sequences]
        given = self._words.complete(given, [sequence.word.own_shares for sequence in sequences])
        shares = self._words.share_of_beginnings(given, places)
        for sequence, share in zip(sequences, shares, strict=True):
            for index in sequence.resting:
                share[index] = math.nan
        factors = [sequence.word.weigh(share) for sequence, share in zip(sequences, shares, strict=True)]
        return self._frame.fuse(self._words.weigh(given, places, factors), given.logprobs), given

    def _feed_in_pieces(
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
                self._feed(indices, reading, failed)
        self._feed(indices, joining, failed)
        return [sequence for sequence in joining if sequence not in failed]

    def _feed(
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
        if any(track.draft for track in tracks):
            tokens = {track.row: [*track.pending, *track.draft] for track in tracks}
            return self._members[index].start_extend_each(tokens, {track.row: track.num_told for track in tracks})
        measured = {track.row: track.num_measured for track in tracks if track.num_measured}
        return self._members[index].start_extend({track.row: track.next_ids for track in tracks}, measured)

    def _gather(self, index: int, sequences: Sequence[RunningSequence]) -> Tensor:
        """A member's logits `(len(sequences), num_logits)`: mostly the batch that it returned, as it is."""
        tracks = [sequence.tracks[index] for sequence in sequences]
        batch = tracks[0].batch
        in_order = all(track.batch is batch and track.place == place for place, track in enumerate(tracks))
        if batch is not None and in_order and len(batch) == len(tracks):
            return batch
        return torch.stack([track.logits for track in tracks if track.logits is not None])


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


def _draw(sequences: Sequence[RunningSequence], failed: dict[RunningSequence, DeepenError]) -> None:
    """Have sequences that one member at a time writes draw what comes next, which they take in before another step."""
    for sequence in sequences:
        try:
            sequence.draw()
        except DeepenError as error:
            failed[sequence] = error


def _silence(given: list[float], resting: Collection[int]) -> list[float]:
    """What members gave, with NaN for those that rest."""
    return [math.nan if index in resting else one for index, one in enumerate(given)]


def _find_doubtful(sequences: Sequence[RunningSequence], logprobs: Tensor) -> list[RunningSequence]:
    """The sequences whose best token members that rest might change."""
    checked = [(place, s) for place, s in enumerate(sequences) if s.rest is not None and s.is_checked]
    if not checked:
        return []
    best = logprobs[[place for place, _ in checked]].topk(2, dim=-1).values.exp().tolist()
    return [
        sequence
        for (_, sequence), (first, second) in zip(checked, best, strict=True)
        if sequence.rest is not None and not is_certain(first, second, sequence.rest.share)
    ]


def _without_failed(result: StepResult) -> StepResult:
    """The result of the sequences that can go on."""
    if not any(sequence in result.failed for sequence in result.sequences):
        return result
    kept = [place for place, sequence in enumerate(result.sequences) if sequence not in result.failed]
    result.sequences = [result.sequences[place] for place in kept]
    result.logprobs = result.logprobs[kept]
    result.fused_rows = [result.fused_rows[place] for place in kept] if result.fused_rows else []
    return result
