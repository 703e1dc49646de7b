"""Systems on the same tasks: which member is best alone, and how far above it another system is."""

from __future__ import annotations

from collections.abc import Sequence

from deepen_llm.evaluation.estimates import Estimate, mean_over_tasks
from deepen_llm.evaluation.scores import Scores
from deepen_llm.evaluation.systems import SystemResult
from deepen_llm.evaluation.tasks import BITS_PER_BYTE


def best_member(results: Sequence[SystemResult], task: str) -> SystemResult | None:
    """The member that alone is best at a task; None where no member did it alone."""
    able = [result for result in results if result.system.is_member and result.tasks[task].scores is not None]
    return max(able, key=lambda result: _goodness(result.tasks[task].scores), default=None)


def gain_on_best(result: SystemResult, results: Sequence[SystemResult], task: str) -> Estimate | None:
    """How far a system's value is above the best single member's, paired; None where there is nothing to pair."""
    best, scores = best_member(results, task), result.tasks[task].scores
    against = best.tasks[task].scores if best else None
    return None if scores is None or against is None else scores.minus(against)


def mean_share(result: SystemResult) -> Estimate | None:
    """The mean over the tasks that count right answers; None where there are none, or one of them was left out."""
    grades = _grades(result)
    return mean_over_tasks(list(grades.values())) if grades else None


def best_on_average(results: Sequence[SystemResult]) -> SystemResult | None:
    """The member with the highest mean over the tasks that count right answers; of equals, the first."""
    able = [result for result in results if result.system.is_member and _grades(result)]
    return max(able, key=_total_share, default=None)


def mean_gain(result: SystemResult, results: Sequence[SystemResult]) -> Estimate | None:
    """How far a system's mean is above that of the member that is best on average, paired; None as in `mean_share`."""
    best = best_on_average(results)
    grades, against = _grades(result), _grades(best) if best else None
    if not grades or not against:
        return None
    return mean_over_tasks([[a - b for a, b in zip(grades[task], against[task], strict=True)] for task in grades])


def _grades(result: SystemResult) -> dict[str, tuple[float, ...]] | None:
    """The grades in the tasks that count right answers; None where a task was left out."""
    grades = {}
    for name, outcome in result.tasks.items():
        if name == BITS_PER_BYTE:
            continue
        if outcome.scores is None:
            return None
        grades[name] = outcome.scores.values
    return grades


def _total_share(result: SystemResult) -> float:
    return sum(sum(values) / len(values) for values in (_grades(result) or {}).values())


def _goodness(scores: Scores | None) -> float:
    if scores is None:
        return float("-inf")
    value = sum(scores.values) / sum(scores.sizes)
    return value if scores.is_share else -value
