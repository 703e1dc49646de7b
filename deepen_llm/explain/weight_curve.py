"""The members' weights over the tokens of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, final

from deepen_llm.results import StepTrace

LEAST_CHANGE = 0.0005
"""Weights that move by less count as level: the change would not be seen."""
MAX_POINTS = 500


@final
@dataclass(frozen=True, slots=True)
class WeightCurve:
    """The weights wherever a trace tells them; without points where it tells none."""

    names: tuple[str, ...]
    """The members', in the order of their weights."""
    points: tuple[tuple[int, tuple[float, ...]], ...]
    """The number of tokens before, and the weights there, summing to 1: at each token for which members were asked,
    and at last after all tokens."""

    @classmethod
    def trace(cls, names: Sequence[str], steps: Sequence[StepTrace], last: Sequence[float] = ()) -> Self:
        """The curve of an answer.

        Args:
            names: The members', in the ensemble's order.
            steps: The answer's; those that a structure forced have no weights, and the curve goes on beyond them.
            last: The weights after the answer (`FusionReport.weights`); those of the last step if not given.
        """
        points = [(at, step.weights) for at, step in enumerate(steps) if step.weights]
        if points:
            points.append((len(steps), tuple(last) or points[-1][1]))
        return cls(tuple(names), tuple(points))

    @property
    def first(self) -> tuple[float, ...]:
        """The weights at the first token for which members were asked; empty where there was none."""
        return self.points[0][1] if self.points else ()

    @property
    def last(self) -> tuple[float, ...]:
        """The weights after the answer; empty where the trace tells none."""
        return self.points[-1][1] if self.points else ()

    @property
    def is_level(self) -> bool:
        """Whether no weight ever changed; one member has always all of it."""
        return all(
            abs(weight - first) < LEAST_CHANGE
            for _, weights in self.points
            for weight, first in zip(weights, self.first, strict=True)
        )

    def thin(self, max_points: int = MAX_POINTS) -> Self:
        """The same with at most so many points (2 or more), evenly chosen, the first and the last among them."""
        if len(self.points) <= max_points:
            return self
        stride = (len(self.points) - 1) / (max_points - 1)
        return type(self)(self.names, tuple(self.points[round(at * stride)] for at in range(max_points)))
