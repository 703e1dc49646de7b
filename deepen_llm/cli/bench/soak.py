"""`deepen bench soak`: an ensemble under a mixed load for as long as one likes, and what is left of it then."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepen_llm.cli.bench.figures import JsonFile, write_figures
from deepen_llm.cli.console import counting, err, open_ensemble, out, say
from deepen_llm.cli.narrow_table import NarrowTable
from deepen_llm.cli.parameters import ENSEMBLE, take_options
from deepen_llm.frontends.source import EnsembleSource
from deepen_llm.text_file import check_writable

if TYPE_CHECKING:
    from deepen_llm.bench.soak import SoakReport
    from deepen_llm.bench.soak_watch import Holding
    from deepen_llm.ensemble import Ensemble


@take_options(source=ENSEMBLE)
def soak(
    *,
    source: EnsembleSource,
    minutes: Annotated[float, typer.Option("--minutes", min=0.01, help="How long requests are made.")] = 5.0,
    num_threads: Annotated[
        int, typer.Option("--threads", min=1, help="Half of them ask from an event loop, for several users each.")
    ] = 8,
    fault_share: Annotated[
        float, typer.Option("--faults", min=0.0, max=1.0, help="The share of what members do that is made to fail.")
    ] = 5e-4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is asked, and of what fails.")] = 0,
    json_file: JsonFile = None,
) -> None:
    """Ask an ensemble in every way from threads and event loops, while its members break, and look at what is left.

    Requests are answered, streamed, abandoned, cancelled, too late or wrong from the start. Every greedy answer must be
    the one that is given alone, every error must name its member, and at the end nothing may run, hold a row, a thread
    or a file, or have grown. Exit code 1 if something is wrong.

    Examples:
    - `deepen bench soak --minutes 60 --json soak.json`
    - `deepen bench soak -m path/to/one -m path/to/other --threads 16`
    """
    if json_file is not None:
        check_writable(json_file, "--json")
    with open_ensemble(source) as ensemble:
        report = _run(ensemble, minutes * 60, num_threads=num_threads, fault_share=fault_share, seed=seed)
        write_figures(json_file, {"ensemble": ensemble.identity, **describe(report)})
    out.print(requests_table(report))
    out.print(holding_table(report))
    for failure in report.failures:
        say(failure, style="red")
    if report.failures:
        raise typer.Exit(1)
    say("nothing is wrong", style="green")


def _run(ensemble: Ensemble, seconds: float, **settings: Any) -> SoakReport:
    """The soak, with a bar of seconds. What members are made to fail with is not logged."""
    import logging

    from deepen_llm.bench.soak import Soak

    with err.status("asking every question alone ..."):
        running = Soak(ensemble.members, ensemble.config, **settings)
    logger = logging.getLogger("deepen_llm")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with counting(round(seconds), "seconds") as advance:
            told = 0

            def tell(num_requests: int, second: float) -> None:
                nonlocal told
                advance(f"{num_requests} requests", int(second) - told)
                told = int(second)

            return running.run(seconds, tell)
    finally:
        logger.setLevel(level)
        running.close()


def describe(report: SoakReport) -> dict[str, Any]:
    """Everything that was counted, as JSON values."""
    values = dataclasses.asdict(report)
    holding = {**values.pop("holding"), "samples": [sample._asdict() for sample in report.holding.samples]}
    holding |= {"before": report.holding.before._asdict(), "after": report.holding.after._asdict()}
    return {**values, "total": report.total, "holding": holding, "failures": report.failures}


def requests_table(report: SoakReport) -> NarrowTable:
    """How requests ended."""
    title = f"{report.total} requests in {report.seconds / 60:.1f} minutes"
    rows = [(f"{number}", end) for end, number in report.num_requests.items()]
    rows += [(f"{number}", f"of all, with {name}") for name, number in report.errors.items()]
    return NarrowTable(title, ("requests", "how they ended"), rows, loose=(1,), left=(1,))


def holding_table(report: SoakReport) -> NarrowTable:
    """What was left, and what should be."""
    holding: Holding = report.holding
    slope = "too short to tell" if holding.slope_mb_per_hour is None else f"{holding.slope_mb_per_hour:+.1f} MB an hour"
    rows = [
        ("answers compared, ties", f"{report.num_compared}, {report.num_ties}"),
        ("requests that run", f"{report.num_running}"),
        ("rows in the members", ", ".join(f"{number}" for number in report.num_open.values())),
        ("faults made", f"{sum(report.num_faults.values())} of {len(report.num_faults)} kinds"),
        ("memory after the warm-up", f"{slope}, {holding.growth_mb:+.1f} MB in all"),
        ("memory before, most, after", _describe_memory(holding)),
        ("threads before, after", f"{holding.before.num_threads}, {holding.after.num_threads}"),
        ("open files before, after", f"{holding.before.num_files}, {holding.after.num_files}"),
    ]
    return NarrowTable("What is left", ("what", "measured"), rows, loose=(0, 1), left=(0, 1))


def _describe_memory(holding: Holding) -> str:
    figures = (holding.before.memory_mb, holding.most_memory_mb, holding.after.memory_mb)
    return ", ".join(f"{figure:.0f}" for figure in figures) + " MB"
