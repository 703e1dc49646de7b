"""Several contestants on the same questions: each alone, all together, and what the ensemble gains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepen_llm.evaluation.accuracy import Estimate, mean_over_tasks, wilson_estimate

if TYPE_CHECKING:
    from deepen_llm.config import EnsembleConfig


@dataclass(frozen=True)
class Contestant:
    """Whether each answer was right, task by task."""

    name: str
    grades: dict[str, tuple[bool, ...]]

    def accuracy(self, task: str) -> Estimate:
        """The share of right answers in one task, with Wilson's interval."""
        return wilson_estimate(sum(self.grades[task]), len(self.grades[task]))

    @property
    def mean(self) -> Estimate:
        """The mean over tasks of the shares of right answers, with a bootstrap interval."""
        return mean_over_tasks(list(self.grades.values()))


@dataclass(frozen=True)
class Comparison:
    """An ensemble and its members alone, on the same tasks in the same order."""

    members: tuple[Contestant, ...]
    ensemble: Contestant

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks."""
        return tuple(self.ensemble.grades)

    @property
    def best_member(self) -> Contestant:
        """The member with the highest mean; the first of equals."""
        return max(self.members, key=lambda member: sum(map(_share, member.grades.values())))

    @property
    def gain(self) -> Estimate:
        """What the ensemble's mean is above the best member's: paired differences, with a bootstrap interval."""
        best = self.best_member
        return mean_over_tasks([_differences(self.ensemble.grades[task], best.grades[task]) for task in self.tasks])

    def margin(self, task: str) -> float:
        """How far the ensemble is above the member that is best at this task (negative where it is below)."""
        return _share(self.ensemble.grades[task]) - max(_share(member.grades[task]) for member in self.members)


def each_alone(config: EnsembleConfig) -> Iterator[EnsembleConfig]:
    """A configuration of each member without the others."""
    for member in config.members:
        yield config.replace(members=(member,), weights=None, main=0)


def _share(grades: Sequence[bool]) -> float:
    return sum(grades) / len(grades)


def _differences(ours: Sequence[bool], theirs: Sequence[bool]) -> list[float]:
    return [float(a) - float(b) for a, b in zip(ours, theirs, strict=True)]
