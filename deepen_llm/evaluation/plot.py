"""What every system reached, task by task, with intervals, as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from deepen_llm.errors import MissingDependencyError
from deepen_llm.evaluation.estimates import Estimate
from deepen_llm.evaluation.systems import SystemResult


def check_matplotlib() -> None:
    """Find out before hours of evaluation that nothing can be drawn.

    Raises:
        MissingDependencyError: It says what to install.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("the report's plot needs matplotlib: pip install 'deepen-llm[eval]'") from error


def plot_results(results: Sequence[SystemResult], tasks: Sequence[str], file: Path) -> None:
    """Draw a field for each task, a row for each system: members grey, ensembles in colour.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    num_columns = min(4, len(tasks))
    num_rows = -(-len(tasks) // num_columns)
    size = (2.2 + 2.6 * num_columns, num_rows * (1.0 + 0.3 * len(results)))
    # A fixed salt and no date: the same results make the same file.
    with rc_context({"svg.hashsalt": "deepen", "svg.fonttype": "none"}):
        picture = Figure(figsize=size, layout="constrained")
        fields = picture.subplots(num_rows, num_columns, squeeze=False, sharey=True).ravel().tolist()
        for axes, task in zip(fields, tasks, strict=False):
            _draw(axes, results, task)
        for axes in fields[len(tasks) :]:
            axes.set_visible(False)
        picture.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def _draw(axes: object, results: Sequence[SystemResult], task: str) -> None:
    """One task: values as points, intervals as lines."""
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    is_share = all(result.tasks[task].scores is None or _is_share(result, task) for result in results)
    for row, result in enumerate(results):
        scores = result.tasks[task].scores
        if scores is None or not math.isfinite(scores.estimate.value):
            continue
        value, low, high = _in_units(scores.estimate, 100.0 if is_share else 1.0)
        colour = "0.45" if result.system.is_member else f"C{row % 10}"
        spread = None if math.isnan(low) else [[value - low], [high - value]]
        axes.errorbar(value, row, xerr=spread, fmt="o", color=colour, capsize=3)
    axes.set_yticks(range(len(results)), [result.system.name for result in results])
    axes.set_ylim(len(results) - 0.5, -0.5)
    axes.set_title(task, fontsize="medium")
    axes.set_xlabel("right answers in %" if is_share else "bits per byte (less is better)")
    axes.grid(axis="x", alpha=0.3)
    if is_share:
        axes.set_xlim(-3, 103)


def _is_share(result: SystemResult, task: str) -> bool:
    scores = result.tasks[task].scores
    return scores is not None and scores.is_share


def _in_units(estimate: Estimate, factor: float) -> tuple[float, float, float]:
    return factor * estimate.value, factor * estimate.low, factor * estimate.high
