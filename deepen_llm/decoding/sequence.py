"""What runs in the engine: a text in progress, held by every member, that chooses its tokens one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, final

import torch
from torch import Tensor

from deepen_llm.config import SamplingParams
from deepen_llm.decoding.boundary import Boundary
from deepen_llm.decoding.detokenizer import Detokenizer
from deepen_llm.decoding.sampling import apply_filters, make_generator, sample
from deepen_llm.decoding.stopping import StopMatcher
from deepen_llm.decoding.track import Track
from deepen_llm.members.base import Member
from deepen_llm.reading.row import RowReading
from deepen_llm.results import (
    Candidate,
    Chunk,
    FinishReason,
    FusionReport,
    Generation,
    Score,
    StepTrace,
    TokenLogprob,
    Usage,
)
from deepen_llm.vocabulary import EncodedText, Vocabulary


class RunningSequence(ABC):
    """A text in progress. The engine asks it to choose a token, then to take it in; its future holds the result."""

    def __init__(self, members: Sequence[Member], main: int, prompts: Sequence[EncodedText]) -> None:
        self.tracks = [Track(member, prompt) for member, prompt in zip(members, prompts, strict=True)]
        self.future: Future[Any] = Future()
        self.num_steps = 0
        self.is_finished = False
        self._main = main
        self._prompt = prompts[main]
        vocabulary = members[main].vocabulary
        self._vocabulary = vocabulary
        begins_text = not self._prompt.text and self._prompt.at_start
        # Members with the main model's own vocabulary take its tokens as they are, however they cut the text.
        self._takes_tokens = [member.vocabulary.fingerprint == vocabulary.fingerprint for member in members]
        self._detokenizer = Detokenizer(drop_leading_space=vocabulary.adds_prefix_space and begins_text)
        self.chosen_ids: list[int] = []
        """The main model's tokens behind the prompt."""
        self.is_fused = True
        """Whether the others have a say at this step."""
        self._num_fused = 0
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
        )

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


@final
class GeneratingSequence(RunningSequence):
    """Decodes an answer. Pieces of text go to `on_chunk` as they become certain, from the engine's thread."""

    def __init__(
        self,
        members: Sequence[Member],
        main: int,
        prompts: Sequence[EncodedText],
        params: SamplingParams,
        on_chunk: Callable[[Chunk], None] | None = None,
    ) -> None:
        super().__init__(members, main, prompts)
        self.params = params
        self.wants_trace = params.trace
        self._on_chunk = on_chunk
        self._matcher = StopMatcher(params.stop)
        self._generator = make_generator(params) if params.temperature else None
        self._finish_reason: FinishReason = "length"
        self._pieces: list[str] = []
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._trace: list[StepTrace] = []
        self._num_sent = 0

    def choose(self, logprobs: Tensor, best: int) -> int:
        """The best token, or one drawn as the sampling parameters say."""
        if self.params.ignore_eos:
            logprobs = logprobs.clone()
            logprobs[list(self._vocabulary.eos_ids)] = -torch.inf
            best = int(logprobs.argmax())
        if self._generator is None:
            return best
        return sample(apply_filters(logprobs, self.params), self._generator)

    def accept(self, token_id: int, logprobs: Tensor, trace: StepTrace | None) -> None:
        """Record the token, release what text is certain, end at end-of-sequence, a stop string or the limit."""
        self._count_step()
        self._token_ids.append(token_id)
        if self.params.logprobs is not None:
            self._logprobs.append(describe_choice(self._vocabulary, logprobs, token_id, self.params.logprobs))
        if trace is not None:
            self._trace.append(trace)
        if token_id in self._vocabulary.eos_ids:
            self._end("stop", self._matcher.push(self._detokenizer.flush()))
            return
        text = self._matcher.push(self._push(token_id))
        if self._matcher.is_matched:
            self._end("stop", text)
        elif len(self._token_ids) == self.params.max_new_tokens:
            self._end("length", text + self._matcher.push(self._detokenizer.flush()))
        else:
            self._emit(text)

    def finish_full(self) -> None:
        """A full context ends the answer as its length limit does."""
        self._end("length", self._matcher.push(self._detokenizer.flush()))

    def result(self) -> Generation:
        """The whole answer."""
        return Generation(
            text="".join(self._pieces),
            token_ids=tuple(self._token_ids),
            finish_reason=self._finish_reason,
            usage=self._usage(),
            logprobs=tuple(self._logprobs) if self.params.logprobs is not None else None,
            trace=tuple(self._trace) if self.params.trace else None,
            fusion=self.fusion_report(),
        )

    def _end(self, reason: FinishReason, text: str) -> None:
        self.is_finished = True
        self._finish_reason = reason
        self._emit(text + self._matcher.flush())

    def _usage(self) -> Usage:
        return Usage(prompt_tokens=len(self._prompt.ids), completion_tokens=len(self._token_ids))

    def _emit(self, text: str) -> None:
        """Keep a piece and stream it, with all tokens since the last one. Only the last piece may be empty."""
        if not text and not self.is_finished:
            return
        self._pieces.append(text)
        if self._on_chunk is None:
            return
        begin, self._num_sent = self._num_sent, len(self._token_ids)
        self._on_chunk(
            Chunk(
                text=text,
                token_ids=tuple(self._token_ids[begin:]),
                logprobs=tuple(self._logprobs[begin:]) if self.params.logprobs is not None else None,
                trace=tuple(self._trace[begin:]) if self.params.trace else None,
                finish_reason=self._finish_reason if self.is_finished else None,
                usage=self._usage() if self.is_finished else None,
                fusion=self.fusion_report() if self.is_finished else None,
            )
        )


@final
class ScoringSequence(RunningSequence):
    """Follows a given continuation and adds up its log-probability (teacher forcing)."""

    def __init__(
        self, members: Sequence[Member], main: int, prompts: Sequence[EncodedText], continuation_ids: Sequence[int]
    ) -> None:
        super().__init__(members, main, prompts)
        self._forced = list(continuation_ids)
        self._logprob = 0.0
        self._is_greedy = True

    def choose(self, logprobs: Tensor, best: int) -> int:
        """The next token of the continuation, whatever is best."""
        token_id = self._forced[self.num_steps]
        self._is_greedy &= token_id == best
        return token_id

    def accept(self, token_id: int, logprobs: Tensor, trace: StepTrace | None) -> None:
        """Add the token's log-probability."""
        self._count_step()
        self._logprob += float(logprobs[token_id])
        self._push(token_id)
        self.is_finished = self.num_steps == len(self._forced)

    def finish_full(self) -> None:
        """A continuation that does not fit cannot be scored."""
        raise next(track for track in self.tracks if track.is_full).context_error()

    def result(self) -> Score:
        """The sum over all tokens."""
        return Score(
            logprob=self._logprob,
            is_greedy=self._is_greedy,
            num_tokens=self.num_steps,
            fusion=self.fusion_report(),
        )


def describe_choice(vocabulary: Vocabulary, logprobs: Tensor, token_id: int, num_top: int) -> TokenLogprob:
    """The chosen token's log-probability with the best alternatives."""
    top = describe_best(vocabulary, logprobs.exp(), num_top)
    return TokenLogprob(token_id, vocabulary.display(token_id), float(logprobs[token_id]), top)


def describe_best(vocabulary: Vocabulary, probs: Tensor, num_top: int) -> tuple[Candidate, ...]:
    """The `num_top` best tokens of a distribution (num_logits,) that have any probability."""
    best = probs.topk(min(num_top, len(probs)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple(Candidate(token_id, vocabulary.display(token_id), prob) for token_id, prob in pairs if prob > 0)
