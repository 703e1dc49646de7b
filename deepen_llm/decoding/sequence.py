"""What runs in the engine: a text in progress, held by every member, that chooses its tokens one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from torch import Tensor

from deepen_llm.deadline import Deadline
from deepen_llm.decoding.boundary import Boundary
from deepen_llm.decoding.detokenizer import Detokenizer
from deepen_llm.decoding.track import Track
from deepen_llm.members.base import Member
from deepen_llm.reading.row import RowReading
from deepen_llm.results import FusionReport, StepTrace
from deepen_llm.vocabulary import EncodedText


class RunningSequence(ABC):
    """A text in progress. The engine asks it to choose a token, then to take it in; its future holds the result."""

    def __init__(
        self,
        members: Sequence[Member],
        main: int,
        prompts: Sequence[EncodedText],
        timeout_s: float | None = None,
    ) -> None:
        self.tracks = [Track(member, prompt) for member, prompt in zip(members, prompts, strict=True)]
        self.future: Future[Any] = Future()
        self.deadline = Deadline(timeout_s)
        """Also the engine looks at it: who holds a stream and does not read it would not notice."""
        self.num_steps = 0
        self.is_finished = False
        self._main = main
        self._prompt = prompts[main]
        vocabulary = members[main].vocabulary
        self._vocabulary = vocabulary
        # Members with the main model's own vocabulary take its tokens as they are, however they cut the text.
        self._takes_tokens = [member.vocabulary.fingerprint == vocabulary.fingerprint for member in members]
        self._detokenizer = Detokenizer(drop_leading_space=vocabulary.continues_with_space(self._prompt))
        self.chosen_ids: list[int] = []
        """The main model's tokens behind the prompt."""
        self.is_fused = True
        """Whether the others have a say at this step."""
        self._num_fused = self._num_forced = 0
        self.boundaries: dict[int, Boundary] = {}
        """Where the tracks were last at a boundary, by member, where the members are read as text."""
        self.readings: dict[int, RowReading] = {}
        """What following the members' tokens found at this step, by member, where anything was followed."""
        self.weights: tuple[float, ...] = ()
        """One a member; none yet where they are to come from the prompt."""
        self._num_extra_rows = self._num_extra_passes = 0
        self._neglected = 0.0
        self._num_abstained = 0

    wants_trace = False

    def note_reading(self, index: int, reading: RowReading) -> None:
        """Record what reading a member took at this step."""
        self.readings[index] = reading
        self._num_extra_rows += reading.num_rows
        self._num_extra_passes += reading.num_passes
        self._neglected += reading.neglected

    def note_abstention(self) -> None:
        """Record that a member had nothing to say at this step."""
        self._num_abstained += 1

    def fusion_report(self) -> FusionReport:
        """How the members worked together so far."""
        return FusionReport(
            num_steps=self.num_steps,
            num_fused=self._num_fused,
            num_extra_rows=self._num_extra_rows,
            num_extra_passes=self._num_extra_passes,
            neglected=self._neglected / max(self._num_fused * max(len(self.tracks) - 1, 1), 1),
            num_abstained=self._num_abstained,
            weights=self.weights,
            num_forced=self._num_forced,
        )

    def restrict(self, logprobs: Tensor) -> Tensor:
        """The fused logprobs (num_logits,) with the tokens left out that may not come; here they all may."""
        return logprobs

    def accept_forced(self) -> None:  # noqa: B027  (what is free has nothing forced)
        """Take in what alone can come next, for which no member has to be asked; here there is nothing."""

    @abstractmethod
    def choose(self, logprobs: Tensor, best: int) -> int:
        """Pick a token from the fused logprobs (num_logits,), whose best one is `best`."""

    @abstractmethod
    def accept(self, token_id: int, logprobs: Tensor, trace: StepTrace | None) -> None:
        """Take the chosen token in, and note where it ends the sequence."""

    @abstractmethod
    def finish_full(self) -> None:
        """End where a member's context is full.

        Raises:
            ContextLengthError: The sequence is of no use cut short.
        """

    @abstractmethod
    def result(self) -> Any:
        """What the future gets."""

    def resolve(self) -> None:
        """Hand the result over, unless nobody waits for it any more."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(self.result())

    def fail(self, error: BaseException) -> None:
        """Hand an error over, unless nobody waits for it any more."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)

    def release(self) -> None:
        """Free every member's row."""
        for track in self.tracks:
            track.release()

    def _count_step(self) -> None:
        """One more step is done, the one that ends the sequence included."""
        self.num_steps += 1
        self._num_fused += self.is_fused
        self.readings = {}

    def _push(self, token_id: int) -> str:
        """Add the token to the main model's track and its text to the others'; the text that became whole."""
        self.chosen_ids.append(token_id)
        text = self._detokenizer.push(self._vocabulary.tokens[token_id] or b"")
        for track, takes_tokens in zip(self.tracks, self._takes_tokens, strict=True):
            if takes_tokens:
                track.push_token(token_id)
            else:
                track.push_text(text, self._detokenizer.open_bytes)
        return text
