"""The loop: every running sequence takes one step at a time, all of them together, in one thread."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from deepen_llm.decoding.sequence import RunningSequence
from deepen_llm.decoding.step import Stepper, StepResult
from deepen_llm.decoding.tracing import trace_step
from deepen_llm.decoding.turns import Turns
from deepen_llm.errors import ClosedError, DeepenError, EngineError
from deepen_llm.results import StepTimes
from deepen_llm.threads import use_threads
from deepen_llm.weighting.base import Weighting

logger = logging.getLogger(__name__)

CLOSE_S = 10.0
"""Seconds that closing waits for the step that runs."""


@final
class Engine:
    """Runs the members side by side. Sequences join while others run and leave when they are done.

    Everything that touches a member happens in the engine's own thread; `submit`, `num_running` and `close` may be
    called from any thread. No fault of a sequence or a member ends the thread: what it meets there, the exits of the
    interpreter and the panics of foreign libraries included, fails the requests that it befell, by an own error.
    """

    def __init__(
        self,
        stepper: Stepper,
        weighting: Weighting,
        max_batch_size: int,
        *,
        num_threads: int | None = None,
        turns: Turns | None = None,
    ) -> None:
        """Start the thread.

        Args:
            stepper: Takes the steps.
            weighting: Gives every sequence its weights.
            max_batch_size: The most sequences that run at the same time.
            num_threads: How many threads the engine's computations use; None leaves that to torch.
            turns: Taken by every engine over the same members, so that one at a time steps; None for one alone.
        """
        self._stepper, self._weighting = stepper, weighting
        self._max_batch_size, self._num_threads = max_batch_size, num_threads
        self._turns = turns or Turns()
        self._waiting: deque[RunningSequence] = deque()
        self._running: list[RunningSequence] = []
        self._is_closing = False
        self._ended: ClosedError | None = None
        """Why the thread has ended, once it has, though nobody closed it."""
        self._process = os.getpid()
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._loop, name="deepen-engine", daemon=True)
        self._thread.start()

    @property
    def num_running(self) -> int:
        """Sequences that run or wait to run."""
        with self._wake:
            return len(self._waiting) + len(self._running)

    @property
    def step_times(self) -> StepTimes:
        """How many steps were taken, and how long each member was waited for in them."""
        return StepTimes(self._stepper.num_steps, tuple(self._stepper.seconds))

    @property
    def has_ended(self) -> bool:
        """Whether the thread has ended though nobody closed it."""
        return self._ended is not None

    def submit(self, sequence: RunningSequence) -> None:
        """Take a sequence in; its future will hold the result. Cancelling the future frees its rows.

        Raises:
            ClosedError: As by `check_usable`.
        """
        self._check_process()
        with self._wake:
            self._check_running()
            self._waiting.append(sequence)
            self._wake.notify()

    def check_usable(self) -> None:
        """See that what is submitted would be answered.

        Raises:
            ClosedError: The engine was closed, its thread has ended, or the process was forked from the one that it
                runs in.
        """
        self._check_process()
        with self._wake:
            self._check_running()

    def _check_process(self) -> None:
        """Before any lock is asked for: in a child, a lock that the parent's thread held stays taken for ever."""
        if self._is_copy:
            raise ClosedError(
                "this process was forked from the one in which the ensemble was made, and the thread that answers did "
                "not come along: make the ensemble after the fork (in a server: in each worker), or start processes "
                "by 'spawn'"
            )

    def _check_running(self) -> None:
        if self._ended is not None:
            raise ClosedError(str(self._ended)) from self._ended.__cause__
        if self._is_closing:
            raise ClosedError("the ensemble is closed: make a new one to go on")

    @property
    def _is_copy(self) -> bool:
        """Whether a fork made this engine, which then has no thread."""
        return os.getpid() != self._process

    def close(self) -> bool:
        """Stop the thread; what still runs fails with `ClosedError`. May be called more than once.

        Returns:
            Whether the thread has ended. A member that hangs in a forward pass is not waited for longer than
            `CLOSE_S`: its thread is left to itself, and the members with it.
        """
        if self._is_copy:
            return True
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_S)
            if self._thread.is_alive():
                logger.warning("a member is still in a forward pass %g s after closing: it is left to itself", CLOSE_S)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        end = ClosedError("the ensemble was closed before the answer was done")
        try:
            self._run()
        except BaseException as error:
            logger.critical("the engine ends: a failure could not be handed to its requests", exc_info=True)
            end = ClosedError(f"the ensemble's engine ended by {_describe(error)}: make a new ensemble to go on")
            end.__cause__ = error
            with self._wake:
                self._ended = end
        with self._turns:
            self._fail([*self._running, *self._waiting], end)
            self._stepper.prefixes.clear()
        self._waiting.clear()

    def _run(self) -> None:
        """Take steps until the engine is closed."""
        if self._num_threads is not None:
            use_threads(self._num_threads)
        with torch.inference_mode():
            while self._admit():
                with self._turns:
                    try:
                        self._step()
                    except BaseException as error:
                        logger.exception("a decoding step failed; the sequences in it fail, the engine goes on")
                        self._fail(self._running, error)

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
        cancelled = [sequence for sequence in self._running if sequence.future.cancelled()]
        for sequence in cancelled:
            self._stepper.prefixes.keep(sequence.tracks)  # of an answer that was stopped, the next turn begins as well
        self._drop(cancelled)
        for sequence in [sequence for sequence in self._running if sequence.deadline.is_over]:
            self._fail([sequence], sequence.deadline.error)
        self._for_each(self._running, self._prepare)
        self._end_full()
        if self._running:
            result = self._stepper.run(self._stepper.choose_next(self._running))
            for sequence, error in result.failed.items():
                self._fail([sequence], error)
            self._choose(result)

    def _prepare(self, sequence: RunningSequence) -> None:
        """Weights for a sequence that has just come in; and it takes in what alone can come next, without a pass."""
        if not sequence.has_begun:
            prior, weighting = sequence.prior, self._weighting
            weights = weighting.begin() if prior is None else weighting.begin_with(prior)
            sequence.begin(weights, reads_prompt=weighting.reads_prompt)
        sequence.accept_forced()

    def _choose(self, result: StepResult) -> None:
        """The next token of every sequence, and what follows from it."""
        best = dict(zip(result.sequences, _pick_best(result.sequences, result.logprobs), strict=True))
        rows = dict(zip(result.sequences, result.logprobs.unbind() if result.sequences else (), strict=True))
        chosen: dict[RunningSequence, int] = {}

        def choose(sequence: RunningSequence) -> None:
            restricted = sequence.restrict(rows[sequence])
            if restricted is not rows[sequence]:
                rows[sequence], best[sequence] = restricted, int(restricted.argmax())
            chosen[sequence] = sequence.choose(rows[sequence], best[sequence])

        self._for_each(result.sequences, choose)
        self._note_given(result, chosen)
        self._for_each(list(chosen), lambda sequence: self._accept(sequence, chosen[sequence], rows[sequence]))

    def _accept(self, sequence: RunningSequence, token_id: int, logprobs: Tensor) -> None:
        """Have a sequence take its token, chosen from logprobs `(num_main_logits,)`."""
        trace = trace_step(sequence, logprobs, token_id) if sequence.wants_trace else None
        sequence.accept(token_id, logprobs, trace)

    def _note_given(self, result: StepResult, chosen: dict[RunningSequence, int]) -> None:
        """Tell every sequence what the members gave the token that it chose."""
        given = result.given([chosen.get(sequence, 0) for sequence in result.sequences])
        for sequence, probs in zip(result.sequences, given, strict=True):
            sequence.given = probs

    def _for_each(self, sequences: Sequence[RunningSequence], act: Callable[[RunningSequence], None]) -> None:
        """Do something with each sequence; one that fails leaves the others be, one that is finished is resolved."""
        for sequence in list(sequences):
            self._attempt(sequence, act)
        for sequence in sequences:
            if sequence.is_finished and sequence in self._running:
                self._attempt(sequence, self._finish)

    def _attempt(self, sequence: RunningSequence, act: Callable[[RunningSequence], None]) -> None:
        try:
            act(sequence)
        except BaseException as error:
            if not isinstance(error, DeepenError):
                logger.exception("a sequence failed; the others go on")
            self._fail([sequence], error)

    def _finish(self, sequence: RunningSequence) -> None:
        self._stepper.prefixes.keep(sequence.tracks)
        self._drop([sequence])
        sequence.resolve()

    def _end_full(self) -> None:
        """End the sequences that no longer fit into some member's context."""
        full = [sequence for sequence in self._running if any(track.is_full for track in sequence.tracks)]
        self._for_each(full, lambda sequence: sequence.finish_full())

    def _fail(self, sequences: Sequence[RunningSequence], error: BaseException) -> None:
        failed = list(sequences)
        try:
            self._drop(failed)
        finally:
            for sequence in failed:
                sequence.fail(error if isinstance(error, DeepenError) else _name(error))

    def _drop(self, sequences: Sequence[RunningSequence]) -> None:
        """Take sequences out of the batch and free their rows."""
        with self._wake:
            self._running = [sequence for sequence in self._running if sequence not in sequences]
        for sequence in sequences:
            sequence.release()


def _pick_best(sequences: Sequence[RunningSequence], logprobs: Tensor) -> list[int]:
    """The best token of each sequence that is not forbidden: the one place where a choice comes back to the host."""
    if not sequences:
        return []
    if any(sequence.forbidden_ids for sequence in sequences):
        places = [(row, token_id) for row, sequence in enumerate(sequences) for token_id in sequence.forbidden_ids]
        rows, ids = torch.tensor(places, device=logprobs.device).T
        logprobs = logprobs.index_put((rows, ids), logprobs.new_tensor(-torch.inf))
    best: list[int] = logprobs.argmax(dim=-1).tolist()
    return best


def _name(error: BaseException) -> EngineError:
    """What a request fails with that met a fault of nobody's: never an exit or an interrupt, which would be obeyed."""
    own = EngineError(f"the engine failed by {_describe(error)}; it goes on: try again, and report this")
    own.__cause__ = error
    return own


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
