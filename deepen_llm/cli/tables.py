"""Tables and figures that several commands show: what happened step by step, estimates with their intervals, sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from deepen_llm.evaluation import Estimate, SystemResult
    from deepen_llm.results import Candidate, StepTrace, TokenLogprob

NUM_SHOWN = 3
UNITS = ("B", "kB", "MB", "GB", "TB")


def trace_table(steps: Sequence[StepTrace], names: Sequence[str], last_weights: Sequence[float] = ()) -> Group:
    """Each step: the token, the best tokens of every member and of the fusion, and who changed the choice.

    Where the weights changed, each member's stands below its tokens; below the table, what became of them.

    Args:
        steps: The answer's.
        names: The members', in the ensemble's order.
        last_weights: The weights after the answer.
    """
    from deepen_llm.explain.weight_curve import WeightCurve
    from deepen_llm.explain.wording import describe_course

    table = Table("step", "token", show_lines=True)
    curve = WeightCurve.trace(names, steps, last_weights)
    for name in names:
        table.add_column(Text(name))
    table.add_column("fused")
    table.add_column("changed by")
    for step in steps:
        tops = {view.member: view.top for view in step.members}
        views = [_candidates(tops.get(name, ())) for name in names]
        if not curve.is_level and step.weights:
            views = [_with_weight(view, weight) for view, weight in zip(views, step.weights, strict=True)]
        table.add_row(
            str(step.step), _quoted(step.text), *views, _candidates(step.fused), Text(", ".join(step.changed_by))
        )
    is_told = len(names) > 1 and curve.points
    return Group(table, Text(describe_course(curve))) if is_told else Group(table)


def _with_weight(view: Text, weight: float) -> Text:
    """A member's best tokens with its weight on a line of its own; the weight alone where it was not asked."""
    from deepen_llm.explain.wording import format_weight

    told = Text(f"weight {format_weight(weight)}", style="dim")
    return Text("\n").join([view, told]) if view else told


def logprobs_table(logprobs: Sequence[TokenLogprob]) -> Table:
    """Each token with its log-probability and the alternatives asked for."""
    table = Table("token", "logprob", "alternatives", show_lines=any(len(entry.top) > 1 for entry in logprobs))
    for entry in logprobs:
        table.add_row(_quoted(entry.text), f"{entry.logprob:.3f}", _candidates(entry.top, len(entry.top)))
    return table


def narrow_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, loose: Sequence[int] = (0,)
) -> Group:
    """A blank line, the title and a table for 80 columns in which nothing is cut.

    Columns of figures are as wide as their figures need, and only their headings wrap; the columns at the places
    `loose` hold words, wrap, and fold a name that is too long for them.
    """
    table = Table(box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False, show_edge=False)
    for place, heading in enumerate(columns):
        width = max([_heading_width(heading), *(cell_len(row[place]) for row in rows)])
        table.add_column(
            heading,
            justify="left" if place == 0 else "right",
            overflow="fold",
            width=None if place in loose else width,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return Group("", Text(title, style="bold"), table)


def _heading_width(heading: str) -> int:
    """The least width at which a heading takes two lines and no word of it is cut."""
    longest = max(map(len, heading.split()))
    return next(width for width in range(longest, len(heading) + 1) if len(wrap(heading, width)) <= 2)


def estimate_cell(estimate: Estimate | None, *, is_share: bool) -> Text:
    """A share in percent, or bits per byte, with its interval on the line below; None is what was left out."""
    if estimate is None:
        return Text("left out", style="yellow")
    if not math.isfinite(estimate.value):
        return Text("infinite", style="yellow")
    factor, digits = (100, 0) if is_share else (1, 2)
    low, high = factor * estimate.low, factor * estimate.high
    interval = "no interval" if math.isnan(low) else f"{low:.{digits}f}-{high:.{digits}f}"
    return Text(f"{factor * estimate.value:.{digits + 1}f}\n{interval}")


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


def _candidates(candidates: Sequence[Candidate], num_shown: int = NUM_SHOWN) -> Text:
    return Text("\n").join(Text.assemble(_quoted(c.text), f" {c.prob:.1%}") for c in candidates[:num_shown])


def _quoted(text: str) -> Text:
    """A token with its spaces and newlines visible."""
    return Text(repr(text))
