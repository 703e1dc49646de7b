"""Timing that survives a busy machine: cases take turns, and each ratio is of neighbours in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

Times = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Spread:
    """Several runs of one figure."""

    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle run."""
        return median(self.runs)

    @property
    def low(self) -> float:
        """The smallest run."""
        return min(self.runs)

    @property
    def high(self) -> float:
        """The largest run."""
        return max(self.runs)


def take_turns(cases: Mapping[str, Callable[[], float]], num_repetitions: int) -> Times:
    """Run every case once unrecorded, then all of them in turn, again and again.

    Args:
        cases: Functions that do their work and return what it took, such as seconds per token.
        num_repetitions: Recorded runs of each.

    Returns:
        What each case returned, in order.
    """
    for case in cases.values():
        case()
    times: Times = {name: [] for name in cases}
    for _ in range(num_repetitions):
        for name, case in cases.items():
            times[name].append(case())
    return times


def ratios(times: Times, numerators: tuple[str, ...], denominators: tuple[str, ...]) -> Spread:
    """Round by round: the sum of some cases over the sum of others."""

    def total(names: tuple[str, ...]) -> list[float]:
        return [sum(runs) for runs in zip(*(times[name] for name in names), strict=True)]

    return Spread(tuple(a / b for a, b in zip(total(numerators), total(denominators), strict=True)))
