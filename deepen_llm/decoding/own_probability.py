"""How probable a member finds a text that it did not choose, by its own tokens.

With n of them before the text's last boundary of the member's, and F the probability that the text goes on from there
with the bytes since then, that is the probability of the n tokens times F. What a token is given comes with the pass
before it or, where several are fed at once, with their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import final

from torch import Tensor


@final
class OwnProbability:
    """One track's. Of a prompt only the tokens that were measured are known."""

    def __init__(self) -> None:
        self._logprobs: list[float] = []
        """Of the tokens in the member's cache; NaN where one is not known."""
        self._reached: tuple[int, float] | None = None
        """Of the text as it was reached last: how many of the tokens stand for it, and the log of what else it had."""
        self._next: Tensor | None = None
        """Probs `(num_logits,)` after all of the tokens."""

    def begin(self, logprobs: Sequence[float]) -> None:
        """The first tokens are there already; of some of them it may be known what they were given, else it is NaN."""
        self._logprobs = list(logprobs)

    def first(self, num_tokens: int) -> list[float]:
        """The logprobs of the first tokens."""
        return self._logprobs[:num_tokens]

    def keep(self, num_tokens: int) -> None:
        """Only the first tokens stay as they are."""
        if num_tokens >= len(self._logprobs):
            return
        if self._reached is not None and num_tokens < self._reached[0]:
            left = self._logprobs[num_tokens : self._reached[0]]
            self._reached = (num_tokens, self._reached[1] + sum(left))
        del self._logprobs[num_tokens:]
        self._next = None

    def feed(self, num_fed: int, ids: Sequence[int], measured: Sequence[float]) -> None:
        """Tokens were fed after `num_fed` others, and the last of them measured; the first may be known already."""
        if len(ids) == len(measured) + 1 and self._next is not None and num_fed == len(self._logprobs):
            measured = [_log(float(self._next[ids[0]])), *measured]
        num_new = num_fed + len(ids) - len(self._logprobs)
        self._logprobs += [*[math.nan] * (num_new - len(measured)), *measured][-num_new:]
        self._next = None

    def last(self, num_tokens: int) -> list[float]:
        """The logprobs of the last tokens."""
        return self._logprobs[len(self._logprobs) - num_tokens :]

    def give_each(self, sizes: Sequence[int], said: Sequence[int]) -> list[float]:
        """The probability of each of the last tokens of other text.

        Args:
            sizes: The bytes of the member's own tokens, all of them, which spell the same text.
            said: The bytes of the other ones. A token of the member's counts for the one in which it begins.
        """
        ends = dict(_count_back(sizes, self._logprobs))
        totals = [0.0]
        reach = 0
        for size in reversed(said):
            reach += size
            totals.append(next((ends[at] for at in range(reach, -1, -1) if at in ends), 0.0))
        given = [math.exp(min(longer - shorter, 0.0)) for shorter, longer in pairwise(totals)]
        return given[::-1]

    def reach(self, num_before: int, mass: float, probs: Tensor) -> float:
        """The text is fed up to its end.

        Args:
            num_before: The tokens before its last boundary.
            mass: The probability of the bytes since then.
            probs: What comes next `(num_logits,)`.

        Returns:
            The probability of what was added since the text was reached before; NaN where it is not known.
        """
        self._next = probs
        before, self._reached = self._reached, (num_before, _log(mass))
        if before is None:
            return math.nan
        begin, log_mass = before
        passed = sum(self._logprobs[begin:num_before]) - sum(self._logprobs[num_before:begin])
        added = passed + _log(mass) - log_mass
        if math.isnan(added) or log_mass == -math.inf:
            return math.nan  # of what follows a text that cannot be, nothing can be said
        return math.exp(min(added, 0.0))


def _count_back(sizes: Sequence[int], logprobs: Sequence[float]) -> Iterator[tuple[int, float]]:
    """For every beginning of a token the bytes from there to the end, and the logprobs of all tokens from there."""
    place, total = 0, 0.0
    yield place, total
    for size, logprob in zip(reversed(sizes), reversed(logprobs), strict=True):
        place, total = place + size, total + logprob
        yield place, total


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else -math.inf
