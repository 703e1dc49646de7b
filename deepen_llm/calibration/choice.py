"""What a calibration chooses, what came of each choice, and which of them is taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import final

from deepen_llm.evaluation.estimates import Estimate, mean_over_tasks, wilson_estimate

LEAST_GAIN = 1e-9
"""Scores nearer than this are equal: rounding must not choose."""


@final
@dataclass(frozen=True, slots=True)
class Choice:
    """What is chosen: the main model's position, one weight per member, and the trust."""

    main: int
    weights: tuple[float, ...]
    trust: float

    @property
    def is_alone(self) -> bool:
        """Whether the main model speaks alone."""
        return self.weights[self.main] == 1


@final
@dataclass(frozen=True)
class Trial:
    """A choice and what came of it, row by row."""

    choice: Choice
    scores: tuple[float, ...]
    """More is better; see `DevelopmentSet.unit`. `-inf` where an answer is impossible."""
    is_greedy: tuple[bool, ...]
    """Whether greedy decoding would give exactly the row's answer."""

    @cached_property
    def score(self) -> Estimate:
        """The mean score with the bootstrap's 95% interval."""
        if -math.inf in self.scores:
            return Estimate(-math.inf, -math.inf, -math.inf)
        return mean_over_tasks([self.scores])

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


@final
@dataclass(frozen=True)
class Calibration:
    """All that was tried, in order, each choice once."""

    trials: tuple[Trial, ...]
    start: Trial
    """Uniform weights, with the main model and the trust as they were."""

    @property
    def chosen(self) -> Trial:
        """The best, where its gain over the start is beyond doubt (a 95% interval above 0).

        Otherwise uniform weights: with another main model where that is beyond doubt, else the start as it is.
        """
        for trial in (self.best, self.best_uniform):
            if trial.gain_over(self.start).low > 0:
                return trial
        return self.start

    @property
    def best(self) -> Trial:
        """The highest mean score; of equals, the one tried first."""
        return best_of(self.trials)

    @property
    def best_alone(self) -> Trial:
        """The best member without the others."""
        return best_of([trial for trial in self.trials if trial.choice.is_alone])

    @property
    def best_uniform(self) -> Trial:
        """The best of those with uniform weights."""
        return best_of([trial for trial in self.trials if len(set(trial.choice.weights)) == 1])


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
