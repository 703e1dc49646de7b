"""The choice of main model, weights, temperatures and trust on a development set: the same every time.

First comes the temperature that suits each member alone; all else is a coordinate search over the ensemble, how far to
go towards those temperatures as well: members that know different things may be of more use as sure as they are.

A choice is scored by the bits per byte of the answers, which is smoother than the share of right ones. Where scores do
not decide, right answers do, and nothing is taken that has fewer of them than the start. The winner of a search looks
better on its development set than it is: report it on other questions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any, final

from deepen_llm.calibration.choice import Calibration, Choice, Fit, Trial, best_of, is_better
from deepen_llm.calibration.development_set import MIN_ROWS, DevelopmentSet
from deepen_llm.calibration.temperature import fit_temperature
from deepen_llm.errors import ConfigError

TRUSTS = (1.0, 0.75, 0.5, 0.25)
"""The values of `FusionConfig.trust` that are tried; 0 is the main model alone, which is tried as all weight on it."""
ETAS = (0.0, 0.05, 0.15, 0.3, 0.5)
ALONES = (0.0, 0.2, 0.4, 0.6, 0.8)
"""The values of `AdaptiveWeightingConfig.eta` and `alone` that are tried."""
ROUNDING = 1e-6

Measure = Callable[[Choice], Trial]
Temperatures = tuple[float, ...] | None


def calibrate(
    measure: Measure,
    development: DevelopmentSet,
    start: Choice,
    *,
    other_mains: Sequence[int] = (),
    num_parts: int = 10,
    count_right: Callable[[Choice], int] | None = None,
) -> Calibration:
    """Choose temperatures, then the main model, the weights, how they learn, and the trust, until nothing brings more.

    Every main model is tried alone and with the weights of the start first. Weights are multiples of 1 / `num_parts`:
    parts wander from one member to another as long as that helps.

    Args:
        measure: Scores a choice.
        development: What `measure` scores on, to be judged whether it is enough.
        start: All as it is. Weights that do not learn stay fixed ones; temperatures that are None are not fitted.
        other_mains: Further positions that may be the main model's.
        num_parts: How fine weights are.
        count_right: How many answers are right under a choice, to choose where scores do not, and to take nothing that
            has fewer than the start.

    Raises:
        ConfigError: Fewer than two members or too few parts, a development set on which nothing can be chosen, or one
            with an answer that is impossible whatever is chosen.
    """
    num_members = len(start.weights)
    if num_members < 2 or num_parts < num_members:
        raise ConfigError(
            f"a choice needs two members and a part of the weight for each; got {num_members} members, {num_parts} "
            "parts: add a member, or take a finer step"
        )
    search = _Search(measure, num_parts, start)
    begun = search.attempt(start)
    _check_enough(development, begun)
    mains = (start.main, *other_mains)
    fits = search.fit_temperatures()
    fitted = replace(start, temperatures=tuple(_temperature(fit.after.choice) or 1.0 for fit in fits) or None)
    for main in mains:
        search.attempt(_alone(fitted, main))
    for main in mains:
        search.attempt(replace(fitted, main=main))
    search.run(mains, _on_the_way(start.temperatures, fitted.temperatures))
    calibration = Calibration(tuple(search.trials.values()), begun, fits)
    if calibration.best.score.value == -math.inf:
        raise ConfigError(
            f"every answer must be possible, and one of {development.name} is not, whatever is chosen: the method "
            "gives its first tokens no probability at all; take another method, or leave that row out"
        )
    if count_right is None or not calibration.rivals:
        return calibration
    asked = (begun, *calibration.rivals)
    return replace(calibration, num_right={trial.choice: count_right(trial.choice) for trial in asked})


def measure_start(measure: Measure, start: Choice) -> Calibration:
    """One trial, and nothing chosen."""
    trial = measure(start)
    return Calibration((trial,), trial)


@final
class _Search:
    """Climbs one coordinate at a time; only a higher score moves it, so that it ends."""

    def __init__(self, measure: Measure, num_parts: int, start: Choice) -> None:
        self._measure, self._num_parts, self._start = measure, num_parts, start
        self._measured: dict[Choice, Trial] = {}
        self.trials: dict[Choice, Trial] = {}

    def attempt(self, choice: Choice) -> Trial:
        """Score a choice, or remember its score."""
        if choice not in self.trials:
            self.trials[choice] = replace(self._score(choice), choice=choice)
        return self.trials[choice]

    def fit_temperatures(self) -> tuple[Fit, ...]:
        """Each member's, alone; none where they stay as they are."""
        if self._start.temperatures is None:
            return ()
        return tuple(map(self._fit, range(len(self._start.weights))))

    def run(self, mains: Sequence[int], temperatures: Sequence[Temperatures]) -> None:
        """From the best trial of several members, put on the grid; temperatures are among these."""
        start = best_of([trial for trial in self.trials.values() if not trial.choice.is_alone]).choice
        best = self.attempt(replace(start, weights=self._on_grid(start)))
        previous: Trial | None = None
        while best is not previous:
            previous = best
            for main in mains:
                best = self._better(best, replace(best.choice, main=main))
            best = self._move_weights(best)
            if best.choice.learns:
                best = self._move_along(best, "eta", _ascending(ETAS, best.choice.eta))
                best = self._move_along(best, "alone", _ascending(ALONES, best.choice.alone))
            best = self._move_along(best, "trust", _ascending(TRUSTS, best.choice.trust))
            best = self._move_along(best, "temperatures", temperatures)

    def _score(self, choice: Choice) -> Trial:
        """A member alone is the same whatever is said of the others and of how it is weighed and trusted."""
        if choice.is_alone:
            choice = _alone(self._start, choice.main, _temperature(choice))
        if choice not in self._measured:
            self._measured[choice] = self._measure(choice)
        return self._measured[choice]

    def _fit(self, member: int) -> Fit:
        def measure(temperature: float) -> Trial:
            return self._score(_alone(self._start, member, temperature))

        return fit_temperature(measure, self._score(_alone(self._start, member)))

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

    def _move_along(self, best: Trial, name: str, values: Sequence[float | Temperatures]) -> Trial:
        """Down and up from value to value, as long as that helps; of a member alone nothing changes."""
        if best.choice.is_alone:
            return best
        for step in (-1, 1):
            previous = None
            while best is not previous and 0 <= (at := values.index(getattr(best.choice, name)) + step) < len(values):
                change: dict[str, Any] = {name: values[at]}
                moved = replace(best.choice, **change)
                previous, best = best, self._better(best, moved)
        return best

    def _move_part(self, choice: Choice, giver: int, taker: int) -> Choice:
        parts = [round(weight * self._num_parts) for weight in choice.weights]
        parts[giver] -= 1
        parts[taker] += 1
        return replace(choice, weights=self._as_weights(parts))

    def _on_grid(self, choice: Choice) -> tuple[float, ...]:
        """The weights in whole parts, one at least; the rest goes where most is missing, the main model first."""
        wanted = [weight * (self._num_parts - len(choice.weights)) for weight in choice.weights]
        parts = [int(weight + ROUNDING) for weight in wanted]
        missing = [round(weight - part, 6) for weight, part in zip(wanted, parts, strict=True)]
        order = sorted(range(len(parts)), key=lambda member: (-missing[member], member != choice.main))
        for member in order[: self._num_parts - len(parts) - sum(parts)]:
            parts[member] += 1
        return self._as_weights([part + 1 for part in parts])

    def _as_weights(self, parts: Sequence[int]) -> tuple[float, ...]:
        return tuple(part / self._num_parts for part in parts)


def _alone(choice: Choice, member: int, temperature: float | None = None) -> Choice:
    """A member without the others, at a temperature in place of its own."""
    weights = tuple(float(other == member) for other in range(len(choice.weights)))
    temperatures = choice.temperatures
    if temperatures is not None and temperature is not None:
        temperatures = (*temperatures[:member], temperature, *temperatures[member + 1 :])
    return replace(choice, main=member, weights=weights, temperatures=temperatures)


def _ascending(grid: Sequence[float], value: float | None) -> list[float]:
    """The values of a grid and the one that is there."""
    return sorted({*grid, *(() if value is None else (value,))})


def _on_the_way(start: Temperatures, fitted: Temperatures) -> list[Temperatures]:
    """Temperatures as they were, as they suit each member alone, and halfway."""
    if start is None or fitted is None or start == fitted:
        return [start]
    halfway = tuple(round(math.sqrt(a * b), 2) for a, b in zip(start, fitted, strict=True))
    return [start, halfway, fitted]


def _temperature(choice: Choice) -> float | None:
    """The main model's; None where temperatures are as they are."""
    return None if choice.temperatures is None else choice.temperatures[choice.main]


def _check_enough(development: DevelopmentSet, start: Trial) -> None:
    """Refuse a set on which luck would choose, and say how far off its scores may be."""
    reason = development.why_too_little()
    if reason is None:
        return
    score = start.bits_per_byte
    doubt = "one row has no interval"
    if len(development.rows) > 1:
        doubt = f"its 95% interval {score.low:.3f} to {score.high:.3f}, {score.high - score.low:.3f} wide"
    raise ConfigError(
        f"a choice needs at least {MIN_ROWS} rows with different answers; {reason}: as it is, an ensemble gets "
        f"{score.value:.3f} bits per byte, {doubt}. Add rows, or take uniform weights (`deepen calibrate --uniform`)"
    )
