"""Pictures: what a step of fusion costs against the size of the vocabularies, and how the time of a step divides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deepen_llm.bench.division import PARTS, Division
from deepen_llm.bench.fusion import FusionFigures
from deepen_llm.errors import MissingDependencyError


def check_matplotlib() -> None:
    """Find out before minutes of measuring that nothing can be drawn.

    Raises:
        MissingDependencyError: It says what to install.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("a plot needs matplotlib: pip install 'deepen-llm[bench]'") from error


def plot_cost(figures: Sequence[FusionFigures], file: Path) -> None:
    """Draw time and memory; the axes are logarithmic.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    ordered = sorted(figures, key=lambda entry: max(entry.num_tokens))
    sizes = [max(entry.num_tokens) for entry in ordered]
    picture = Figure(figsize=(9, 4), layout="constrained")
    time_axes, memory_axes = picture.subplots(1, 2)
    time_axes.plot(sizes, [entry.step_ms.median for entry in ordered], "o-", label="one step")
    time_axes.plot(sizes, [entry.softmax_ms.median for entry in ordered], "s--", label="of that, softmax")
    pairs = zip(sizes, ordered, strict=True)
    dense = [(size, entry.dense_published_ms.median) for size, entry in pairs if entry.dense_published_ms]
    if dense:
        time_axes.plot(*zip(*dense, strict=True), "^:", label="dense published form")
    time_axes.set(xscale="log", yscale="log", xlabel="tokens of the larger vocabulary", ylabel="milliseconds")
    time_axes.legend()
    memory_axes.plot(sizes, [max(entry.member_bytes) / 1e6 for entry in ordered], "o-", label="tables of a member")
    dense_megabytes = [max(entry.num_tokens) * entry.num_anchors * 4 / 1e6 for entry in ordered]
    memory_axes.plot(sizes, dense_megabytes, "^:", label="dense matrix")
    memory_axes.set(xscale="log", yscale="log", xlabel="tokens of the larger vocabulary", ylabel="MB")
    memory_axes.legend()
    picture.savefig(file, dpi=120)


def plot_division(divisions: Sequence[Division], file: Path) -> None:
    """Draw a bar for each measurement, with its parts from the left to the right.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    picture = Figure(figsize=(9, 1 + 0.7 * len(divisions)), layout="constrained")
    axes = picture.subplots()
    names, begins = [division.name for division in divisions], [0.0] * len(divisions)
    for part in PARTS:
        widths = [division.milliseconds[part] for division in divisions]
        axes.barh(names, widths, left=begins, label=part, height=0.6)
        begins = [begin + width for begin, width in zip(begins, widths, strict=True)]
    axes.invert_yaxis()
    axes.set(xlabel="milliseconds a token")
    picture.legend(loc="outside lower center", ncols=len(PARTS), fontsize="small")
    picture.savefig(file)
