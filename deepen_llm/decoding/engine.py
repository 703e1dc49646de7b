"""The loop: every running sequence takes one step at a time, all of them together, in one thread."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from deepen_llm.decoding.sequence import RunningSequence
from deepen_llm.decoding.tracing import trace_step
from deepen_llm.errors import ClosedError, DeepenError, MemberError, NumericalError
from deepen_llm.fusion.base import FusionMethod
from deepen_llm.members.base import Member

logger = logging.getLogger(__name__)


@final
class Engine:
    """Runs the members side by side. Sequences join while others run and leave when they are done.

    Everything that touches a member happens in the engine's own thread; `submit`, `num_running` and `close` may be
    called from any thread.
    """

    def __init__(self, members: Sequence[Member], main: int, fusion: FusionMethod, max_batch_size: int) -> None:
        self._members = tuple(members)
        self._main = main
        self._fusion = fusion
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

    def close(self) -> None:
        """Stop the thread; what still runs fails with `ClosedError`. May be called more than once."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

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
            while self._waiting and len(self._running) < self._max_batch_size:
                self._running.append(self._waiting.popleft())
            return not self._is_closing

    def _step(self) -> None:
        """One token for every running sequence."""
        self._drop([sequence for sequence in self._running if sequence.future.cancelled()])
        self._end_full()
        for index in self._launch_order:
            self._extend(index)
        logits = self._gather_logits()
        if not self._running:
            return
        logprobs = self._fusion.fuse(logits)
        best = logprobs.argmax(dim=-1).tolist()
        for index, sequence in enumerate(list(self._running)):
            try:
                self._advance(sequence, [rows[index] for rows in logits], logprobs[index], best[index])
            except Exception as error:
                logger.exception("a sequence failed; the others go on")
                self._fail([sequence], error)
        self._finish([sequence for sequence in self._running if sequence.is_finished])

    def _advance(self, sequence: RunningSequence, logits: Sequence[Tensor], logprobs: Tensor, best: int) -> None:
        """One sequence's token, from each member's logits (num_logits,) and the fused logprobs."""
        token_id, trace = sequence.choose(logprobs, best), None
        if sequence.wants_trace:
            trace = trace_step(self._members, self._main, logits, logprobs, token_id, step=sequence.num_steps)
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

    def _extend(self, index: int) -> None:
        """Feed one member the tokens that it has not seen, all rows in one pass; if it raises, they all fail."""
        tracks = [sequence.tracks[index] for sequence in self._running]
        behind = [track for track in tracks if track.pending]
        if not behind:
            return
        member = self._members[index]
        try:
            logits = member.extend({track.row: track.pending for track in behind})
        except Exception as error:
            logger.exception("member %r failed; the sequences that it took part in fail", member.name)
            reason = f"member {member.name!r} failed in a forward pass: {type(error).__name__}: {error}"
            self._fail(self._running, MemberError(f"{reason}; the ensemble stays usable, try again or leave it out"))
            return
        for track, row in zip(behind, logits, strict=True):
            track.note_fed(row)

    def _gather_logits(self) -> list[Tensor]:
        """Each member's logits (running sequences, num_logits), without the sequences where one says NaN."""
        sequences = list(self._running)
        if not sequences:
            return []
        tracks = [[sequence.tracks[index] for sequence in sequences] for index in range(len(self._members))]
        logits = [torch.stack([track.logits for track in row if track.logits is not None]) for row in tracks]
        if all(rows.amax().item() < torch.inf for rows in logits):  # NaN is the greatest of all, and not less
            return logits
        is_sound = [(rows < torch.inf).all(dim=-1).tolist() for rows in logits]
        for row, sequence in enumerate(sequences):
            broken = [member.name for member, rows in zip(self._members, is_sound, strict=True) if not rows[row]]
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
