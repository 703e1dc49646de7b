"""`deepen bench decode`: what a token costs, as ratios of things timed in one run."""

from __future__ import annotations

import dataclasses
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from deepen_llm.cli.bench.figures import JsonFile, check_figures_file, check_several, write_figures
from deepen_llm.cli.console import err, loading, open_ensemble, out, say
from deepen_llm.cli.parameters import ENSEMBLE, take_options
from deepen_llm.config import MemberConfig
from deepen_llm.errors import ConfigError
from deepen_llm.frontends.source import EnsembleSource
from deepen_llm.text_file import check_writable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepen_llm.bench.decode import Finding
    from deepen_llm.ensemble import Ensemble


@take_options(source=ENSEMBLE)
def decode(
    *,
    source: EnsembleSource,
    num_tokens: Annotated[int, typer.Option("--tokens", "-n", min=8, help="Tokens of each answer.")] = 200,
    num_repetitions: Annotated[int, typer.Option("--repetitions", "-r", min=1, help="Runs of each case.")] = 5,
    json_file: JsonFile = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Measure only how a step's time divides, and draw it here (SVG, PNG).")
    ] = None,
    shapes: Annotated[
        str | None, typer.Option("--shapes", help="Measure random models of these sizes instead: 7b, 135m or tiny.")
    ] = None,
    tokenizers: Annotated[
        Path | None,
        typer.Option("--tokenizers", help="For --shapes: a folder with tokenizers in folders of their own."),
    ] = None,
) -> None:
    """Measure decoding: beside the members alone, the published form, long contexts, batches and threads.

    Without models, two of the bundled ones. Cases take turns and ratios are of neighbours in time, so that a busy
    machine disturbs them little. Takes a few minutes.

    Examples:
    - `deepen bench decode`
    - `deepen bench decode -m path/to/one -m path/to/other --json decode.json`
    - `deepen bench decode --plot step.svg`
    - `deepen bench decode --shapes 7b --tokenizers path/to/tokenizers`
    """
    check_figures_file(json_file)
    if shapes is None and tokenizers is not None:
        raise ConfigError("--tokenizers are those of --shapes: say which shapes, or leave it out")
    if shapes is not None:
        if plot is not None or not source.is_starter:
            raise ConfigError("--shapes makes models of its own and draws nothing: leave out models and --plot")
        _measure_shapes(shapes, tokenizers, num_tokens, num_repetitions, json_file)
        return
    if source.is_starter:
        source = dataclasses.replace(source, model=two_starters())
    if plot is not None:
        _divide(source, plot, num_tokens, num_repetitions, json_file)
        return
    with ExitStack() as stack:
        whole = stack.enter_context(open_ensemble(source))
        check_several(whole)
        with loading("each member once more"):
            from deepen_llm.bench.decode import DecodeBenchmark
            from deepen_llm.bench.forgetful import make_forgetful

            ensemble = stack.enter_context(make_forgetful(whole))
            benchmark = DecodeBenchmark(ensemble, num_tokens=num_tokens, num_repetitions=num_repetitions)
        say(f"{' + '.join(ensemble.member_names)}, greedy; medians of {num_repetitions} runs and more", style="dim")
        findings = []
        with err.status("measuring ..."):
            for finding in benchmark.run():
                findings.append(finding)
                out.print(describe_finding(finding))
        write_figures(json_file, report(ensemble, findings))
    out.print(findings_table(findings))


def _measure_shapes(
    shapes: str, tokenizers: Path | None, num_tokens: int, num_repetitions: int, json_file: Path | None
) -> None:
    """Random models of real sizes."""
    if tokenizers is None:
        raise ConfigError("--shapes needs real tokenizers: name a folder that holds some with --tokenizers")
    with loading("random models"):
        from deepen_llm.bench.shapes import ShapesBenchmark

        benchmark = ShapesBenchmark(shapes, tokenizers, num_tokens=num_tokens, num_repetitions=num_repetitions)
    with benchmark.ensemble as ensemble, err.status("measuring ..."):
        findings = list(benchmark.run())
        write_figures(json_file, report(ensemble, findings))
    for finding in findings:
        out.print(describe_finding(finding))
    out.print(findings_table(findings, f"Decoding, {shapes}"))


def _divide(source: EnsembleSource, plot: Path, num_tokens: int, num_repetitions: int, json_file: Path | None) -> None:
    """How a step's time divides, as a picture and a table."""
    from deepen_llm.bench.division import measure_division
    from deepen_llm.bench.plot import check_matplotlib, plot_division

    check_matplotlib()
    check_writable(plot, "--plot")
    from deepen_llm.bench.forgetful import make_forgetful

    with open_ensemble(source) as whole, make_forgetful(whole) as ensemble:
        with err.status("measuring ..."):
            divisions = list(measure_division(ensemble, num_tokens=num_tokens, num_repetitions=num_repetitions))
        write_figures(json_file, {"ensemble": ensemble.identity, "divisions": list(map(dataclasses.asdict, divisions))})
    plot_division(divisions, plot)
    table = Table("milliseconds a token", *(division.name for division in divisions))
    for part in divisions[0].milliseconds:
        table.add_row(part, *(f"{division.milliseconds[part]:.2f}" for division in divisions))
    out.print(table)


def describe_finding(finding: Finding) -> Text:
    """One finding in a line or two, as soon as it is there."""
    figures = ", ".join(f"{name} {value:.2f} ms" for name, value in finding.milliseconds.items())
    lines = [f"{finding.value.median:.2f} {finding.name}", *filter(None, (figures, finding.note))]
    return Text("\n    ".join(lines))


def findings_table(findings: Sequence[Finding], title: str = "Decoding") -> Table:
    """Every ratio with its spread and its target."""
    table = Table("measured", "target", "what", title=title, title_justify="left", title_style="bold")
    for finding in findings:
        value = finding.value
        spread = f" ({value.low:.2f} to {value.high:.2f})" if len(value.runs) > 1 else ""
        style = "green" if finding.is_met else "red"
        measured = Text(f"{value.median:.2f}{spread}", style=style)
        table.add_row(measured, f"{finding.wants} {finding.target:g}", Text(finding.name))
    return table


def report(ensemble: Ensemble, findings: Sequence[Finding]) -> dict[str, Any]:
    """Everything measured, as JSON values."""
    entries = [
        {**dataclasses.asdict(finding), "median": finding.value.median, "is_met": finding.is_met}
        for finding in findings
    ]
    return {"ensemble": ensemble.identity, "findings": entries}


def two_starters() -> list[str | Path | MemberConfig]:
    """The first two of the bundled models."""
    from deepen_llm.starter import model_paths

    return [*model_paths()[:2]]
