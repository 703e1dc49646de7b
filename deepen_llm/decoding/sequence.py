"""What runs in the engine: a text in progress, held by every member, that chooses its tokens one by one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from traceback import clear_frames
from typing import Any

from torch import Tensor

from deepen_llm.decoding.detokenizer import Detokenizer
from deepen_llm.decoding.drawn_text import DrawnText
from deepen_llm.decoding.open_word import OpenWord, Said
from deepen_llm.decoding.prompt_words import given_words, num_to_measure
from deepen_llm.decoding.resting import MOST, MOST_CHECKED, Rest, choose_resting
from deepen_llm.decoding.speculation.drafts import Drafts
from deepen_llm.decoding.track import Track
from deepen_llm.errors import MemberError
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.projection.results import Path
from deepen_llm.requests.deadline import Deadline
from deepen_llm.results import FusionReport, StepTrace
from deepen_llm.vocabulary import EncodedText
from deepen_llm.weighting.base import Weights


class RunningSequence(ABC):
    """A text in progress. The engine asks it to choose a token, then to take it in; its future holds the result."""

    wants_trace = False
    prior: Sequence[float] | None = None
    """The weights with which the sequence begins; None for the ensemble's."""
    forbidden_ids: Sequence[int] = ()
    """Tokens of the main model that are never chosen."""
    drawn: DrawnText | None = None
    """What writes the text where one member is drawn for each word; None where all are asked."""

    def __init__(
        self, members: Sequence[GuardedMember], main: int, prompts: Sequence[EncodedText], deadline: Deadline
    ) -> None:
        """Prepare every member's row; nothing runs yet. `prompts` are the same text in each member's tokens.

        Raises:
            ContextLengthError: The prompt leaves no room for an answer in some member's context.
        """
        vocabulary = members[main].vocabulary
        num_spaces = vocabulary.count_spaces_before(prompts[main])
        self.tracks = [
            Track(
                member,
                prompt,
                takes_main_tokens=member.vocabulary.fingerprint == vocabulary.fingerprint,
                is_main=index == main,
                num_spaces=max(member.vocabulary.count_spaces_before(prompt) - num_spaces, 0),
            )
            for index, (member, prompt) in enumerate(zip(members, prompts, strict=True))
        ]
        self.future: Future[Any] = Future()
        self.deadline = deadline
        """Also the engine looks at it: who holds a stream and does not read it would not notice."""
        self.given: Sequence[float] | None = None
        """The probability that each member gave the token that was chosen; None where they were not asked."""
        self.rest: Rest | None = None
        """The members that are not asked at this step; None where all are."""
        self.num_steps = 0
        self.is_finished = False
        self.is_fused = True
        """Whether the other members have a say at this step."""
        self.chosen_ids: list[int] = []
        """The main model's tokens after the prompt."""
        self.main = main
        """The main model's position."""
        self.drafts = Drafts(prompts[main].ids)
        self._prompt = prompts[main]
        self._vocabulary = vocabulary
        self._detokenizer = Detokenizer(num_spaces=num_spaces)
        self._num_fused = self._num_forced = 0
        self._word: OpenWord | None = None
        self._reads_prompt = False
        self._untold: list[tuple[bytes, Sequence[float] | None]] = []
        """Tokens that the weights have not been told of, each with what it was given, as far as that is known."""
        self._woken: Rest | None = None
        """Members that have rested up to this step."""

    @property
    def has_begun(self) -> bool:
        """Whether the sequence has weights."""
        return self._word is not None

    @property
    def word(self) -> OpenWord:
        """The word that is open, and the weights."""
        if self._word is None:
            raise RuntimeError("a sequence that has not begun has no weights")
        return self._word

    def begin(self, weights: Weights, *, reads_prompt: bool = False) -> None:
        """Begin with these weights, to be changed by what the members give the prompt where they are to read it."""
        self._word = OpenWord(weights, self._prompt.text)
        self._reads_prompt = reads_prompt
        for track in self.tracks if reads_prompt else ():
            track.measure_prompt(num_to_measure(len(track.pending)))
        if self.drawn is not None and not reads_prompt:
            self.drawn.begin(self.word)

    @property
    def resting(self) -> frozenset[int]:
        """The members that are not asked at this step."""
        if self.drawn is not None:
            return self.drawn.resting
        return frozenset() if self.rest is None else self.rest.members

    @property
    def is_checked(self) -> bool:
        """Whether only the best token of all counts, so that it can be checked that it stays the best."""
        return False

    def choose_resting(self) -> None:
        """Find the members that need not be asked at the next step."""
        if self.drawn is not None:
            return
        most = MOST_CHECKED if self.is_checked else MOST
        if self._reads_prompt:
            most = 0.0  # their evidence is still to come
        others = [index for index in range(len(self.tracks)) if index != self.main]
        before, self.rest = self.rest, choose_resting(self.word, self.rest, others, most)
        self._woken = before if self.rest is None else None

    def wake(self) -> None:
        """Have all members asked at this step, after all."""
        self._woken, self.rest = self.rest, None

    def draw(self) -> None:
        """Draw what can be drawn, after a step of a text that one member at a time writes.

        Raises:
            MemberError: A member failed as tokens were taken back.
        """
        if self.drawn is not None:
            self.read_text()
            self.drawn.advance(self.word)

    def read_text(self) -> None:
        """Tell the weights of the text since they were asked last, now that the members have seen it."""
        self._read_prompt()
        for number, (token, given) in enumerate(self._untold, start=1):
            if given is None:
                self.word.skip(token)
                continue
            is_last = number == len(self._untold)
            own = [track.gave if is_last else math.nan for track in self.tracks]
            said = Said(token, given, own, self.word.begins)
            for rest in filter(None, (self.rest, self._woken)):
                rest.note(said)
            self.word.take(token, given, own)
        self._untold.clear()
        if self._woken is not None:
            self._word = self._woken.end(lambda member, sizes: self.tracks[member].give_each(sizes))
            self._woken = None

    def _read_prompt(self) -> None:
        """Change the weights by what the members gave the prompt, once all have that can say it; it is done once."""
        if not self._reads_prompt:
            return
        self._reads_prompt = False
        weights = self.word.weights
        prompts = {
            index: track.prompt
            for index, (track, weight) in enumerate(zip(self.tracks, weights.current, strict=True))
            if weight > 0 and track.prompt is not None
        }
        if len(prompts) < 2:
            return  # nobody to compare with
        words = given_words(list(prompts.values()), self._prompt.contents)
        self.word.weights = weights.after_prompt([word.spread(list(prompts), len(self.tracks)) for word in words])

    def last_tokens(self, num_bytes: int) -> Path:
        """The last tokens that the main model chose, spelling at least `num_bytes`; none where it chose too few.

        A prompt may end anywhere, inside a word as well: how its last tokens were cut tells nothing about what follows.
        """
        tail: list[int] = []
        for token_id in reversed(self.chosen_ids if num_bytes else ()):
            tail.append(token_id)
            num_bytes -= len(self._vocabulary.tokens[token_id] or b"")
            if num_bytes <= 0:
                return tuple(reversed(tail))
        return ()

    def fusion_report(self) -> FusionReport:
        """How the members worked together so far."""
        num_asked = max(self._num_fused * max(len(self.tracks) - 1, 1), 1)
        return FusionReport(
            num_steps=self.num_steps,
            num_fused=self._num_fused,
            num_extra_rows=sum(track.num_extra_rows for track in self.tracks),
            num_extra_passes=sum(track.num_extra_passes for track in self.tracks),
            truncated_mass=sum(track.truncated_mass for track in self.tracks) / num_asked,
            num_abstained=sum(track.num_abstained for track in self.tracks),
            weights=() if self._word is None else self._word.weights.current,
            num_forced=self._num_forced,
            num_drafted=self.drafts.num_drafted,
            num_accepted=self.drafts.count_accepted(self.chosen_ids),
            num_cached=tuple(track.num_reused for track in self.tracks),
        )

    @property
    def open_bytes(self) -> bytes:
        """The bytes of a character that is not complete yet, at the end of the text."""
        return self._detokenizer.open_bytes

    @property
    def most_ahead(self) -> int:
        """How many tokens it is of use to read ahead at most, the next one not among them."""
        return min(track.num_left for track in self.tracks)

    @property
    def given_ids(self) -> Sequence[int]:
        """The tokens that will be chosen, as far as that is known; here nothing is."""
        return ()

    def restrict(self, logprobs: Tensor) -> Tensor:
        """The fused logprobs (num_logits,) with the tokens left out that may not come; here they all may."""
        return logprobs

    def told(self, logprobs: Tensor) -> Tensor:
        """Of the logprobs that a token was chosen from, those to report: here they are the same."""
        return logprobs

    def accept_forced(self) -> None:  # noqa: B027  (what is free has nothing forced)
        """Take in what alone can come next, for which no member has to be asked; here there is nothing."""

    @abstractmethod
    def choose(self, logprobs: Tensor, best: int) -> int:
        """Pick a token from the fused logprobs (num_logits,), whose best one that is not forbidden is `best`."""

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
        result = self.result()
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Hand an error over, unless nobody waits for it any more or the result is there already.

        Whoever keeps it keeps no step alive: its frames are cleared.
        """
        for one in filter(None, (error, error.__cause__)):
            clear_frames(one.__traceback__)
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)

    def release(self) -> None:
        """Free every member's row, also where another member fails to: the guard has told that, and the row is gone."""
        for track in self.tracks:
            with suppress(MemberError):
                track.release()

    def _count_step(self) -> None:
        """One more step is done, the one that ends the sequence included."""
        self.num_steps += 1
        self._num_fused += self.is_fused

    def _push(self, token_id: int) -> str:
        """Add the token to the main model's track and its text to the others'; the text that became whole."""
        self.chosen_ids.append(token_id)
        token = self._vocabulary.tokens[token_id] or b""
        self._untold.append((token, self.given))
        self.given = None
        text = self._detokenizer.push(token)
        for track in self.tracks:
            track.push(token_id, text, self._detokenizer.open_bytes)
        return text


def name_step(sequences: Sequence[RunningSequence], place: int) -> str:
    """What an error says of one row of a pass: the step at which its sequence is."""
    return f"at step {sequences[place].num_steps}"
