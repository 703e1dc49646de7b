"""Tables and figures that several commands show: what happened step by step, estimates with their intervals, sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from deepen_llm.cli.narrow_table import Cell, NarrowTable

if TYPE_CHECKING:
    from deepen_llm.evaluation import Estimate, SystemResult
    from deepen_llm.results import Candidate, StepTrace, TokenLogprob

NUM_SHOWN = 3
UNITS = ("B", "kB", "MB", "GB", "TB")


def trace_table(steps: Sequence[StepTrace], names: Sequence[str], last_weights: Sequence[float] = ()) -> Group:
    """Each step: the token, the best tokens of every member and of the fusion, and who changed the choice.

    Where the weights changed, each member's stands beside its tokens; below the table, what became of them.

    Args:
        steps: The answer's.
        names: The members', in the ensemble's order.
        last_weights: The weights after the answer.
    """
    from deepen_llm.explain.weight_curve import WeightCurve
    from deepen_llm.explain.wording import describe_course

    curve = WeightCurve.trace(names, steps, last_weights)
    rows = [row for step in steps for row in _trace_rows(step, names)]
    columns = ["step", "token", "by", "weight", "best tokens"]
    if curve.is_level:
        columns.remove("weight")
        rows = [(*row[:3], row[4]) for row in rows]
    last = len(columns) - 1
    table = NarrowTable("Steps", columns, rows, loose=(2, last), left=(1, 2, last))
    is_told = len(names) > 1 and curve.points
    return Group(table, Text(describe_course(curve))) if is_told else Group(table)


def _trace_rows(step: StepTrace, names: Sequence[str]) -> Iterator[tuple[Cell, ...]]:
    """One row a member that was asked, and one for the fusion."""
    from deepen_llm.explain.wording import format_weight

    tops = {view.member: view.top for view in step.members}
    begin: tuple[Cell, Cell] = (str(step.step), (repr(step.text),))
    for place, name in enumerate(names):
        weight = format_weight(step.weights[place]) if step.weights else ""
        yield *begin, name, weight, _candidates(tops.get(name, ()))
        begin = ("", "")
    changed = (f"changed by {', '.join(step.changed_by)}",) if step.changed_by else ()
    yield "", "", "fused", "", (*_candidates(step.fused), *changed)


def logprobs_table(logprobs: Sequence[TokenLogprob]) -> NarrowTable:
    """Each token with its log-probability and the alternatives asked for."""
    rows = [((repr(entry.text),), f"{entry.logprob:.3f}", _candidates(entry.top, len(entry.top))) for entry in logprobs]
    return NarrowTable("Log-probabilities", ("token", "logprob", "alternatives"), rows, loose=(2,), left=(0, 2))


def estimate_cell(estimate: Estimate | None, *, is_share: bool) -> tuple[str, ...]:
    """A share in percent, or bits per byte, and its interval; None is what was left out."""
    if estimate is None:
        return ("left out",)
    if not math.isfinite(estimate.value):
        return ("infinite",)
    factor, digits = (100, 0) if is_share else (1, 2)
    low, high = factor * estimate.low, factor * estimate.high
    interval = "no interval" if math.isnan(low) else f"{low:.{digits}f}-{high:.{digits}f}"
    return (f"{factor * estimate.value:.{digits + 1}f}", interval)


def describe_gain(ensemble: SystemResult, results: Sequence[SystemResult]) -> str:
    """What an ensemble gains on the best single member, on average over the tasks, in one line."""
    from deepen_llm.evaluation import best_on_average, mean_gain

    best, gain = best_on_average(results), mean_gain(ensemble, results)
    if best is None or gain is None:
        return "No member did every task alone: there is nothing to compare the ensemble with."
    points = 100 * gain.value
    return (
        f"The ensemble is {abs(points):.1f} points {'above' if points >= 0 else 'below'} the best single member, "
        f"{best.system.name} (95% interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f})."
    )


def format_bytes(number: float) -> str:
    """A number of bytes with a decimal unit and three figures."""
    unit = 0
    while number >= 1000 and unit < len(UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:.3g} {UNITS[unit]}"


def _candidates(candidates: Sequence[Candidate], num_shown: int = NUM_SHOWN) -> tuple[str, ...]:
    """Tokens, their spaces and newlines visible, with their probabilities."""
    return tuple(f"{candidate.text!r} {candidate.prob:.1%}" for candidate in candidates[:num_shown])
