"""What a calibration chooses, what came of each choice, and which of them is taken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import final

from deepen_llm.evaluation.estimates import Estimate, mean_over_tasks, wilson_estimate

LEAST_GAIN = 1e-9
"""Scores nearer than this are equal: rounding must not choose."""
NUM_RIVALS = 5
"""Among so many at most, of which none is beyond doubt the best, the right answers choose."""


@final
@dataclass(frozen=True, slots=True)
class Choice:
    """What is chosen: the main model's position, the trust, and of each member its weight and its temperature."""

    main: int
    weights: tuple[float, ...]
    """The prior of weights that learn, or fixed ones."""
    trust: float
    eta: float | None = None
    """See `AdaptiveWeightingConfig`, `alone` as well; None for fixed weights."""
    alone: float | None = None
    temperatures: tuple[float, ...] | None = None
    """None: as they are."""

    @property
    def is_alone(self) -> bool:
        """Whether the main model speaks alone."""
        return self.weights[self.main] == 1

    @property
    def learns(self) -> bool:
        """Whether the weights learn."""
        return self.eta is not None


@final
@dataclass(frozen=True)
class Trial:
    """A choice and what came of it, row by row."""

    choice: Choice
    scores: tuple[float, ...]
    """More is better; see `DevelopmentSet.score`. `-inf` where an answer is impossible."""
    is_greedy: tuple[bool, ...]
    """Whether greedy decoding would give exactly the row's answer."""

    @cached_property
    def score(self) -> Estimate:
        """The mean score with the bootstrap's 95% interval."""
        if -math.inf in self.scores:
            return Estimate(-math.inf, -math.inf, -math.inf)
        return mean_over_tasks([self.scores])

    @property
    def bits_per_byte(self) -> Estimate:
        """Of the answers: the mean score without its sign. Less is better."""
        return Estimate(-self.score.value, -self.score.high, -self.score.low)

    @cached_property
    def accuracy(self) -> Estimate:
        """The share of rows that greedy decoding would answer exactly so, with Wilson's interval."""
        return wilson_estimate(sum(self.is_greedy), len(self.is_greedy))

    def gain_over(self, other: Trial) -> Estimate:
        """The paired difference of the mean scores, with the bootstrap's 95% interval."""
        if -math.inf in (self.score.value, other.score.value):
            difference = 0.0 if self.score.value == other.score.value else self.score.value - other.score.value
            return Estimate(difference, difference, difference)
        return mean_over_tasks([[ours - theirs for ours, theirs in zip(self.scores, other.scores, strict=True)]])

    def is_surely_above(self, other: Trial) -> bool:
        """Whether the gain is beyond doubt: its 95% interval is above 0."""
        return self.gain_over(other).low > 0


@final
@dataclass(frozen=True, slots=True)
class Fit:
    """One member alone, as its temperature was and at the one that suits it."""

    before: Trial
    after: Trial
    """The same where another temperature gains nothing beyond doubt."""


@final
@dataclass(frozen=True)
class Calibration:
    """All that was tried, in order, each choice once."""

    trials: tuple[Trial, ...]
    start: Trial
    """Weights as they are by default, with the main model, the trust and the temperatures as they were."""
    fits: tuple[Fit, ...] = ()
    """One per member, where temperatures were fitted."""
    num_right: Mapping[Choice, int] = field(default_factory=dict)
    """How many answers are right under the start and the rivals, where answers are short enough to say so."""

    @property
    def chosen(self) -> Trial:
        """Of the rivals the one with the most right answers; where those do not differ or were not asked for, the best.

        Without rivals, or where all of them have fewer right answers than the start, the start.
        """
        return max((*self.rivals, self.start), key=lambda trial: self.num_right.get(trial.choice, 0))

    @property
    def has_fewer_right(self) -> bool:
        """Whether there are rivals, and right answers speak against all of them."""
        return bool(self.rivals) and self.chosen is self.start

    @cached_property
    def rivals(self) -> tuple[Trial, ...]:
        """Those among which no score decides, the best first; none where nothing gains on the start beyond doubt.

        Beyond doubt is a 95% interval above 0. The best is one that gains so; where the best of all does not, the best
        with the weights of the start may. The others gain so as well, and the best is not so far above them.
        """
        start, best = self.start, self.best
        if not best.is_surely_above(start):
            best = self.best_as_begun
        if not best.is_surely_above(start):
            return ()
        better = sorted((t for t in self.trials if is_better(t, start)), key=lambda t: -t.score.value)
        near = (t for t in better if t is not best and not is_better(t, best) and not best.is_surely_above(t))
        return (best, *islice((t for t in near if t.is_surely_above(start)), NUM_RIVALS - 1))

    @property
    def best(self) -> Trial:
        """The highest mean score; of equals, the one tried first."""
        return best_of(self.trials)

    @property
    def best_alone(self) -> Trial:
        """The best member without the others."""
        return best_of([trial for trial in self.trials if trial.choice.is_alone])

    @property
    def best_as_begun(self) -> Trial:
        """The best of those with the weights of the start."""
        return best_of([trial for trial in self.trials if trial.choice.weights == self.start.choice.weights])


def is_better(trial: Trial, than: Trial) -> bool:
    """Whether a trial scores higher; an answer that is possible is better than one that is not."""
    return trial.score.value > than.score.value + LEAST_GAIN or (
        than.score.value == -math.inf and trial.score.value > -math.inf
    )


def best_of(trials: Sequence[Trial]) -> Trial:
    """The one that scores highest; of equals, the first."""
    best = trials[0]
    for trial in trials[1:]:
        best = trial if is_better(trial, best) else best
    return best
