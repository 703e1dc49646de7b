"""What every way to weigh does: begin with a request, change with its words, tell what the weights are."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, final

PROMPT_CREDIT = 0.2
"""How much what a member gives the words of a prompt says of the words of its answer: who predicts a passage a little
better does not read it better."""

GUESS_BITS = 4.0
"""What a byte of a prompt costs whoever guesses letter by letter. A member that does no better does not know such text,
and how far it is from that says nothing."""


@final
@dataclass(frozen=True, slots=True)
class GivenWord:
    """A word of the prompt, or some that the members do not cut apart, and how probable each member found it."""

    num_bytes: int
    logprobs: tuple[float, ...]
    """Natural logs, one per member; `-inf` where it rules the word out, NaN where it says nothing of it."""

    def spread(self, members: Sequence[int], num_members: int) -> GivenWord:
        """The same for all members, of which only these have said anything."""
        logprobs = dict(zip(members, self.logprobs, strict=True))
        return GivenWord(self.num_bytes, tuple(logprobs.get(member, math.nan) for member in range(num_members)))


class Weights(ABC):
    """The weights at one place of one request. They do not change: what comes later has weights of its own."""

    @property
    @abstractmethod
    def current(self) -> tuple[float, ...]:
        """One weight per member, not negative, summing to 1."""

    def after_word(self, given: Sequence[float]) -> Weights:
        """The weights once a word has ended.

        Args:
            given: The probability that each member gave it, in their order, up to a factor that they share. A member
                that was not asked has the mean of the others, which speaks neither for it nor against it.
        """
        del given
        return self

    def after_prompt(self, words: Sequence[GivenWord]) -> Weights:
        """The weights once the prompt is read: as after its words, one by one, each for a part of what it says.

        Some member has said something of every word; one that has not keeps its weight.
        """
        weights: Weights = self
        for word in words:
            guess = -word.num_bytes * GUESS_BITS * math.log(2)
            logprobs = [one if math.isnan(one) else max(one, guess) for one in word.logprobs]
            most = max(one for one in logprobs if not math.isnan(one))
            given = [math.exp(PROMPT_CREDIT * (one - most)) for one in logprobs]
            weights = weights.after_word(_fill(given, weights.current))
        return weights


def _fill(given: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The probabilities, with the mean of those that are known in place of NaN."""
    known = [(one, weight) for one, weight in zip(given, weights, strict=True) if not math.isnan(one)]
    total = sum(weight for _, weight in known)
    mean = sum(one * weight for one, weight in known) / total if total else 1.0
    return [mean if math.isnan(one) else one for one in given]


class Weighting(ABC):
    """Gives every request its weights."""

    reads_prompt: ClassVar[bool] = False
    """Whether `Weights.after_prompt` is to be called."""

    @abstractmethod
    def begin(self) -> Weights:
        """The weights of a request of which nothing was read yet."""

    def begin_with(self, prior: Sequence[float]) -> Weights:
        """The weights of a request that names those with which it begins, one per member; by default they stay so."""
        return FixedWeights(prior)


@final
class FixedWeights(Weights):
    """Weights that stay as they are."""

    def __init__(self, weights: Sequence[float]) -> None:
        """`weights` are one per member, summing to 1."""
        self._weights = tuple(weights)

    @property
    def current(self) -> tuple[float, ...]:
        """The weights."""
        return self._weights

    def after_word(self, given: Sequence[float]) -> Self:
        """The same."""
        del given
        return self


@final
class FixedWeighting(Weighting):
    """The same weights for every request."""

    def __init__(self, weights: Sequence[float]) -> None:
        """`weights` are one per member, summing to 1."""
        self._weights = FixedWeights(weights)

    def begin(self) -> Weights:
        """The weights."""
        return self._weights
