"""The loop: every running sequence takes one step at a time, all of them together, in one thread."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from deepen_llm.decoding.reading import EnsembleReader
from deepen_llm.decoding.safety import Safety
from deepen_llm.decoding.sequence import RunningSequence
from deepen_llm.decoding.tracing import trace_step
from deepen_llm.decoding.weighting import PromptWeighting
from deepen_llm.errors import ClosedError, DeepenError, MemberError, NumericalError
from deepen_llm.fusion.alone import MainAlone
from deepen_llm.fusion.base import FusionMethod, ReadingMethod
from deepen_llm.members.base import Member

logger = logging.getLogger(__name__)

CLOSE_S = 10.0
"""Seconds that closing waits for the step that runs."""


@final
class Engine:
    """Runs the members side by side. Sequences join while others run and leave when they are done.

    Everything that touches a member happens in the engine's own thread; `submit`, `num_running` and `close` may be
    called from any thread.
    """

    def __init__(
        self,
        members: Sequence[Member],
        main: int,
        fusion: FusionMethod,
        max_batch_size: int,
        *,
        reader: EnsembleReader | None = None,
        safety: Safety | None = None,
        weighting: PromptWeighting | None = None,
    ) -> None:
        """Start the thread.

        Args:
            members: One forward pass each a step, and what a reading takes.
            main: Position of the main model.
            fusion: What makes one distribution of theirs; a `ReadingMethod` where there is a reader.
            max_batch_size: The most sequences that run at the same time.
            reader: Reads the members' distributions as text before they are fused; None fuses them as they are.
            safety: Chooses the sequences to fuse at each step; None fuses all.
            weighting: Gives each sequence weights of its own; None leaves the weights to `fusion`.
        """
        self._members = tuple(members)
        self._main = main
        self._fusion, self._reader, self._safety, self._weighting = fusion, reader, safety, weighting
        self._alone = MainAlone(main, members[main].allowed)
        self._max_batch_size = max_batch_size
        self._waiting: deque[RunningSequence] = deque()
        self._running: list[RunningSequence] = []
        self._is_closing = False
        self._wake = threading.Condition()
        # Work on accelerators is asynchronous: what is launched there first runs beside what the CPU computes after.
        self._launch_order = sorted(range(len(members)), key=lambda index: members[index].device.type == "cpu")
        self._thread = threading.Thread(target=self._loop, name="deepen-engine", daemon=True)
        self._thread.start()

    @property
    def num_running(self) -> int:
        """Sequences that run or wait to run."""
        with self._wake:
            return len(self._waiting) + len(self._running)

    def submit(self, sequence: RunningSequence) -> None:
        """Take a sequence in; its future will hold the result. Cancelling the future frees its rows.

        Raises:
            ClosedError: The engine was closed.
        """
        with self._wake:
            if self._is_closing:
                raise ClosedError("the ensemble is closed: make a new one to go on")
            self._waiting.append(sequence)
            self._wake.notify()

    def close(self) -> bool:
        """Stop the thread; what still runs fails with `ClosedError`. May be called more than once.

        Returns:
            Whether the thread has ended. A member that hangs in a forward pass is not waited for longer than
            `CLOSE_S`: its thread is left to itself, and the members with it.
        """
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_S)
            if self._thread.is_alive():
                logger.warning("a member is still in a forward pass %g s after closing: it is left to itself", CLOSE_S)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        with torch.inference_mode():
            while self._admit():
                try:
                    self._step()
                except Exception as error:
                    logger.exception("a decoding step failed; the sequences in it fail, the engine goes on")
                    self._fail(self._running, error)
        self._fail([*self._running, *self._waiting], ClosedError("the ensemble was closed before the answer was done"))
        self._waiting.clear()

    def _admit(self) -> bool:
        """Wait for work and fill the batch in order of arrival. False once the engine closes."""
        with self._wake:
            while not (self._waiting or self._running or self._is_closing):
                self._wake.wait()
            self._waiting = deque(sequence for sequence in self._waiting if not sequence.future.cancelled())
            while self._waiting and len(self._running) < self._max_batch_size:
                self._running.append(self._waiting.popleft())
            return not self._is_closing

    def _step(self) -> None:
        """One token for every running sequence."""
        self._drop([sequence for sequence in self._running if sequence.future.cancelled()])
        for sequence in [sequence for sequence in self._running if sequence.deadline.is_over]:
            self._fail([sequence], sequence.deadline.error)
        self._weigh_new()
        self._force()
        self._end_full()
        logprobs = self._fuse() if self._safety is None else self._fuse_safely(self._safety)
        if logprobs is None:
            return
        best = logprobs.argmax(dim=-1).tolist()
        for index, sequence in enumerate(list(self._running)):
            try:
                self._advance(sequence, logprobs[index], best[index])
            except Exception as error:
                logger.exception("a sequence failed; the others go on")
                self._fail([sequence], error)
        self._finish([sequence for sequence in self._running if sequence.is_finished])

    def _weigh_new(self) -> None:
        """Weights for the sequences that have just come in, from their prompts."""
        if self._weighting is None:
            return
        for sequence in [sequence for sequence in self._running if not sequence.weights]:
            try:
                sequence.weights = self._weighting.weigh([track.pending for track in sequence.tracks])
            except DeepenError as error:
                self._fail([sequence], error)

    def _force(self) -> None:
        """Let the sequences take in what alone can come next: it costs no forward pass of its own."""
        for sequence in list(self._running):
            try:
                sequence.accept_forced()
            except Exception as error:
                logger.exception("a sequence failed; the others go on")
                self._fail([sequence], error)
        self._finish([sequence for sequence in self._running if sequence.is_finished])

    def _fuse(self) -> Tensor | None:
        """The fused logprobs of all that run; None where nothing is left."""
        if not self._running:
            return None
        for sequence in self._running:
            sequence.is_fused = len(self._members) > 1
        for index in self._launch_order:
            self._extend(index, self._running)
        logits = self._gather_logits(range(len(self._members)), self._running)
        fused = self._fuse_logits(self._running, logits) if self._running else None
        return fused if self._running else None

    def _fuse_safely(self, safety: Safety) -> Tensor | None:
        """The same where the main model goes first, and the others are asked for some sequences only.

        What the others have not seen waits with their tracks and is fed when they are asked again.
        """
        self._extend(self._main, self._running)
        own = self._gather_logits([self._main], self._running)
        chosen = safety.choose(self._running, own[0]) if self._running else []
        for index in self._launch_order:
            if index != self._main:
                self._extend(index, chosen)
                chosen = self._still_running(chosen)
        logits = self._gather_logits(range(len(self._members)), chosen)
        chosen = self._still_running(chosen)
        fused = self._fuse_logits(chosen, logits) if chosen else None
        chosen = self._still_running(chosen)
        if not self._running:
            return None
        for sequence in self._running:
            sequence.is_fused = sequence in chosen
        mains = [sequence.tracks[self._main].logits for sequence in self._running]
        alone = self._alone.fuse_main(torch.stack([rows for rows in mains if rows is not None]))
        if not chosen or fused is None:
            return alone
        places = [self._running.index(sequence) for sequence in chosen]
        return alone.index_copy(0, torch.tensor(places, device=alone.device), fused)

    def _fuse_logits(self, sequences: Sequence[RunningSequence], logits: Sequence[Tensor]) -> Tensor:
        """The fused logprobs of some sequences, without those that fail while they are read."""
        weights = None if self._weighting is None else torch.tensor([sequence.weights for sequence in sequences])
        if self._reader is None or not isinstance(self._fusion, ReadingMethod):
            return self._fusion.fuse(logits, weights)
        sequences = list(sequences)
        readings, errors = self._reader.read(sequences, logits)
        fused = self._fusion.fuse_readings(logits[self._main], readings, weights)
        for place, error in errors.items():
            self._fail([sequences[place]], error)
        return fused[[place for place in range(len(sequences)) if place not in errors]] if errors else fused

    def _still_running(self, sequences: Sequence[RunningSequence]) -> list[RunningSequence]:
        """Those of the sequences that have not failed."""
        return [sequence for sequence in sequences if sequence in self._running]

    def _advance(self, sequence: RunningSequence, logprobs: Tensor, best: int) -> None:
        """One sequence's token, from the fused logprobs (num_logits,)."""
        restricted = sequence.restrict(logprobs)
        if restricted is not logprobs:
            logprobs, best = restricted, int(restricted.argmax())
        token_id, trace = sequence.choose(logprobs, best), None
        if sequence.wants_trace:
            trace = trace_step(self._members, self._main, sequence, logprobs, token_id)
        sequence.accept(token_id, logprobs, trace)

    def _end_full(self) -> None:
        """End the sequences that no longer fit into some member's context."""
        for sequence in [s for s in self._running if any(track.is_full for track in s.tracks)]:
            try:
                sequence.finish_full()
            except DeepenError as error:
                self._fail([sequence], error)
            else:
                self._finish([sequence])

    def _extend(self, index: int, sequences: Sequence[RunningSequence]) -> None:
        """Feed one member the tokens that it has not seen, all rows in one pass; if it raises, they all fail."""
        tracks = [sequence.tracks[index] for sequence in sequences]
        behind = [track for track in tracks if track.pending]
        if not behind:
            return
        member = self._members[index]
        try:
            logits = member.extend({track.row: track.pending for track in behind})
        except Exception as error:
            logger.exception("member %r failed; the sequences that it took part in fail", member.name)
            reason = f"member {member.name!r} failed in a forward pass: {type(error).__name__}: {error}"
            self._fail(sequences, MemberError(f"{reason}; the ensemble stays usable, try again or leave it out"))
            return
        for track, row in zip(behind, logits, strict=True):
            track.note_fed(row)

    def _gather_logits(self, indices: Sequence[int], sequences: Sequence[RunningSequence]) -> list[Tensor]:
        """Logits (sequences, num_logits) of some members, without the sequences where one says NaN: these fail."""
        sequences = list(sequences)
        if not sequences:
            return []
        tracks = [[sequence.tracks[index] for sequence in sequences] for index in indices]
        logits = [torch.stack([track.logits for track in row if track.logits is not None]) for row in tracks]
        if all(rows.amax().item() < torch.inf for rows in logits):  # NaN is the greatest of all, and not less
            return logits
        is_sound = [(rows < torch.inf).all(dim=-1).tolist() for rows in logits]
        for row, sequence in enumerate(sequences):
            pairs = zip(indices, is_sound, strict=True)
            broken = [self._members[index].name for index, rows in pairs if not rows[row]]
            if broken:
                step, names = sequence.num_steps, ", ".join(map(repr, broken))
                message = f"NaN or infinity in the logits of {names} at step {step}: try another dtype, such as float32"
                self._fail([sequence], NumericalError(message))
        kept = [row for row, sequence in enumerate(sequences) if sequence in self._running]
        return [rows[kept] for rows in logits]

    def _finish(self, sequences: Sequence[RunningSequence]) -> None:
        self._drop(sequences)
        for sequence in sequences:
            sequence.resolve()

    def _fail(self, sequences: Sequence[RunningSequence], error: BaseException) -> None:
        failed = list(sequences)
        self._drop(failed)
        for sequence in failed:
            sequence.fail(error)

    def _drop(self, sequences: Sequence[RunningSequence]) -> None:
        """Take sequences out of the batch and free their rows."""
        for sequence in sequences:
            sequence.release()
        with self._wake:
            self._running = [sequence for sequence in self._running if sequence not in sequences]
