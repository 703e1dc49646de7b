"""What `deepen bench fusion` measured, beside its targets: as a table, as a line, as JSON values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from deepen_llm.cli.tables import format_bytes

if TYPE_CHECKING:
    from deepen_llm.bench.fusion import FusionFigures
    from deepen_llm.bench.targets import Target
    from deepen_llm.bench.timing import Spread


def figures_table(figures: FusionFigures) -> Table:
    """Everything measured, one line each, beside the targets that apply."""
    from deepen_llm.bench.targets import find_targets

    targets = find_targets(figures)
    sizes = " + ".join(f"{number:,}" for number in figures.num_tokens)
    title = f"{sizes} tokens, {figures.num_anchors:,} anchors, {figures.form} form, {figures.search} search"
    table = Table("what", "measured", "target", title=title, title_justify="left", title_style="bold")

    def add(what: str, measured: str, name: str = "", limit: str = "{:g}", scale: float = 1.0) -> None:
        target = targets.get(name)
        shown = "" if target is None else f"{target.wants} {limit.format(scale * target.limit)}"
        table.add_row(what, Text(measured, style="" if target is None else _style(target)), shown)

    add("build", f"{figures.build_s:.1f} s", "build_s", "{:.0f} s")
    add("build from the store", f"{figures.restart_s:.1f} s", "restart_s", "{:.0f} s")
    add("memory a member", ", ".join(map(format_bytes, figures.member_bytes)), "member_bytes", "{:.0f} MB", 1e-6)
    add("one step", _show(figures.step_ms), "step_ms", "{:,.0f} µs", 1000)
    add("of that, softmax over the logits", _show(figures.softmax_ms))
    add("one step of 32 sequences", _show(figures.batch_ms), "batch_ms", "{:,.0f} µs", 1000)
    if (dense := figures.dense_published_ms) is None:
        add("dense published form", f"left out: its matrices take {format_bytes(figures.dense_bytes)}")
    else:
        add("dense published form, one step", _show(dense))
        add("times faster than that", f"{dense.median / figures.step_ms.median:.1f}", "times_faster", "{:.0f}")
    if (found := figures.comparison) is not None:
        name = f"best token as the reference, {found.num_steps:,} steps"
        add(name, f"{found.share_equal:.2%}", "share_equal", "{:.1%} of 2,000 steps")
        add("KL divergence to it, median", f"{found.kl_median:.1e}", "kl_median", "{:.0e}")
        add("KL divergence to it, 99th percentile", f"{found.kl_p99:.1e}", "kl_p99", "{:.0e}")
    if (found := figures.every_token) is not None:
        add("best token as a search over every token", f"{found.share_equal:.2%}")
        add("KL divergence to that, median and 99th percentile", f"{found.kl_median:.1e}, {found.kl_p99:.1e}")
    return table


def _show(spread: Spread) -> str:
    """Milliseconds as microseconds, median and range."""
    median, low, high = (f"{1000 * value:,.0f}" for value in (spread.median, spread.low, spread.high))
    return f"{median} µs ({low} to {high})"


def _style(target: Target) -> str:
    """Red for what is missed, green for what is reached, yellow for what is reached over too few steps to tell."""
    return "red" if not target.is_met else "green" if target.is_known else "yellow"


def growth_line(figures: Sequence[FusionFigures]) -> Text | None:
    """By what a step grows with the vocabulary; None where the sizes that tell were not measured."""
    from deepen_llm.bench.targets import find_growth

    if (growth := find_growth(figures)) is None:
        return None
    text = f"growth of a step from 32k to 200k tokens, softmax aside: {growth.value:.2f} times, at most 2 wanted"
    return Text(text, style=_style(growth))


def describe_figures(figures: Sequence[FusionFigures]) -> dict[str, Any]:
    """Everything measured, as JSON values."""
    from deepen_llm.bench.targets import find_growth, find_targets

    entries = [
        {
            **dataclasses.asdict(entry),
            "targets": [_describe_target(target) for target in find_targets(entry).values()],
        }
        for entry in figures
    ]
    growth = find_growth(figures)
    return {
        "figures": entries,
        "growth": None if growth is None else _describe_target(growth),
    }


def _describe_target(target: Target) -> dict[str, Any]:
    return {**dataclasses.asdict(target), "is_met": target.is_met}
