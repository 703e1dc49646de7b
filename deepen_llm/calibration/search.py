"""The choice of main model, weights and trust on a development set: a coordinate search, the same every time.

A choice is scored by the mean log-probability of the answers, which is smoother than the share of right ones. The
winner of a search looks better on its development set than it is: report it on other questions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import final

from deepen_llm.calibration.choice import Calibration, Choice, Trial, best_of, is_better
from deepen_llm.calibration.development_set import MIN_ROWS, DevelopmentSet
from deepen_llm.errors import ConfigError

TRUSTS = (1.0, 0.75, 0.5, 0.25)
"""The values of `FusionConfig.trust` that are tried; 0 is the main model alone, which is tried as all weight on it."""

Measure = Callable[[Choice], Trial]


def calibrate(
    measure: Measure,
    development: DevelopmentSet,
    *,
    num_members: int,
    main: int = 0,
    other_mains: Sequence[int] = (),
    trust: float = 1.0,
    num_parts: int = 10,
) -> Calibration:
    """Choose the main model, then the weights, then the trust, and again, until none of them brings anything.

    Every main model is tried alone and with uniform weights first. Weights are multiples of 1 / `num_parts`: parts
    wander from one member to another as long as that helps.

    Args:
        measure: Scores a choice.
        development: What `measure` scores on, to be judged whether it is enough.
        num_members: How many members there are.
        main: The main model's position as it is.
        other_mains: Further positions that may be the main model's.
        trust: As it is.
        num_parts: How fine weights are.

    Raises:
        ConfigError: Fewer than two members or too few parts, a development set on which nothing can be chosen, or one
            with an answer that is impossible whatever is chosen.
    """
    if num_members < 2 or num_parts < num_members:
        raise ConfigError(
            f"a choice needs two members and a part of the weight for each; got {num_members} members, {num_parts} "
            "parts: add a member, or take a finer step"
        )
    uniform = (1 / num_members,) * num_members
    search = _Search(measure, num_parts)
    start = search.attempt(Choice(main, uniform, trust))
    _check_enough(development, start)
    mains = (main, *other_mains)
    for position in mains:
        search.attempt(Choice(position, _all_on(position, num_members), trust))
    for position in mains:
        search.attempt(Choice(position, uniform, trust))
    search.run(mains)
    calibration = Calibration(tuple(search.trials.values()), start)
    if calibration.best.score.value == -math.inf:
        raise ConfigError(
            f"every answer must be possible, and one of {development.name} is not, whatever is chosen: the method "
            "gives its first tokens no probability at all; take another method, or leave that row out"
        )
    return calibration


def measure_uniform(measure: Measure, *, num_members: int, main: int, trust: float) -> Calibration:
    """Uniform weights without a choice: the main model and the trust as they are."""
    trial = measure(Choice(main, (1 / num_members,) * num_members, trust))
    return Calibration((trial,), trial)


@final
class _Search:
    """Climbs one coordinate at a time; only a higher score moves it, so that it ends."""

    def __init__(self, measure: Measure, num_parts: int) -> None:
        self._measure, self._num_parts = measure, num_parts
        self.trials: dict[Choice, Trial] = {}

    def attempt(self, choice: Choice) -> Trial:
        """Score a choice, or remember its score."""
        if choice not in self.trials:
            self.trials[choice] = self._measure(choice)
        return self.trials[choice]

    def run(self, mains: Sequence[int]) -> None:
        """From the best trial with uniform weights, put on the grid."""
        start = best_of([trial for trial in self.trials.values() if not trial.choice.is_alone]).choice
        best = self.attempt(Choice(start.main, self._on_grid(start), start.trust))
        previous: Trial | None = None
        while best is not previous:
            previous = best
            for main in mains:
                best = self._better(best, Choice(main, best.choice.weights, best.choice.trust))
            best = self._move_weights(best)
            best = self._move_trust(best)

    def _better(self, best: Trial, choice: Choice) -> Trial:
        """The one so far, unless this choice scores higher."""
        trial = self.attempt(choice)
        return trial if is_better(trial, best) else best

    def _move_weights(self, best: Trial) -> Trial:
        """Parts from every member to every other, as long as that helps."""
        for giver, taker in permutations(range(len(best.choice.weights)), 2):
            previous = None
            while best is not previous and best.choice.weights[giver] > 0:
                previous, best = best, self._better(best, self._move_part(best.choice, giver, taker))
        return best

    def _move_trust(self, best: Trial) -> Trial:
        """Up and down from value to value, as long as that helps."""
        values = sorted({*TRUSTS, best.choice.trust})
        for step in (-1, 1):
            previous = None
            while best is not previous and 0 <= (at := values.index(best.choice.trust) + step) < len(values):
                moved = Choice(best.choice.main, best.choice.weights, values[at])
                previous, best = best, self._better(best, moved)
        return best

    def _move_part(self, choice: Choice, giver: int, taker: int) -> Choice:
        parts = [round(weight * self._num_parts) for weight in choice.weights]
        parts[giver] -= 1
        parts[taker] += 1
        return Choice(choice.main, self._as_weights(parts), choice.trust)

    def _on_grid(self, choice: Choice) -> tuple[float, ...]:
        """Uniform weights in whole parts: what is left over goes to the main model, then to the first."""
        num_members = len(choice.weights)
        parts = [self._num_parts // num_members] * num_members
        order = sorted(range(num_members), key=lambda member: member != choice.main)
        for member in order[: self._num_parts % num_members]:
            parts[member] += 1
        return self._as_weights(parts)

    def _as_weights(self, parts: Sequence[int]) -> tuple[float, ...]:
        return tuple(part / self._num_parts for part in parts)


def _all_on(main: int, num_members: int) -> tuple[float, ...]:
    return tuple(float(member == main) for member in range(num_members))


def _check_enough(development: DevelopmentSet, start: Trial) -> None:
    """Refuse a set on which luck would choose, and say how far off its scores may be."""
    reason = development.why_too_little()
    if reason is None:
        return
    score = start.score
    doubt = "one row has no interval"
    if len(development.rows) > 1:
        doubt = f"its 95% interval {score.low:.3f} to {score.high:.3f}, {score.high - score.low:.3f} wide"
    raise ConfigError(
        f"weights are chosen on at least {MIN_ROWS} rows with different answers; {reason}: the score with uniform "
        f"weights is {score.value:.3f}, {doubt}. Add rows, or take uniform weights (`deepen calibrate --uniform`)"
    )
