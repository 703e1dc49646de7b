"""`deepen bench`, and `deepen bench decode`: what a token costs, as ratios of things timed in one run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from deepen_llm.cli.console import err, loading, out, say
from deepen_llm.cli.opening import open_ensemble
from deepen_llm.cli.parameters import ENSEMBLE, take_options
from deepen_llm.config import MemberConfig
from deepen_llm.errors import ConfigError
from deepen_llm.source import EnsembleSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepen_llm.bench.decode import Finding
    from deepen_llm.ensemble import Ensemble

bench = typer.Typer(
    name="bench",
    help="Measure what an ensemble costs, a token of decoding, a step of fusion alone or a structured answer, and what "
    "it answers about documents.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@bench.command()
@take_options(source=ENSEMBLE)
def decode(
    *,
    source: EnsembleSource,
    num_tokens: Annotated[int, typer.Option("--tokens", "-n", min=8, help="Tokens of each answer.")] = 200,
    num_repetitions: Annotated[int, typer.Option("--repetitions", "-r", min=1, help="Runs of each case.")] = 5,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as well.")] = None,
) -> None:
    """Measure decoding: beside the members alone, the published form, long contexts, batches and threads.

    Without models, two of the bundled ones. Cases take turns and ratios are of neighbours in time, so that a busy
    machine disturbs them little. Takes a few minutes.

    Examples:
    - `deepen bench decode`
    - `deepen bench decode -m path/to/one -m path/to/other --json decode.json`
    """
    check_writable(json_file, "--json")
    if source.is_starter:
        source = dataclasses.replace(source, model=_first_two_starters())
    with open_ensemble(source) as ensemble:
        check_several(ensemble)
        with loading("each member once more"):
            from deepen_llm.bench.decode import DecodeBenchmark

            benchmark = DecodeBenchmark(ensemble, num_tokens=num_tokens, num_repetitions=num_repetitions)
        say(f"{' + '.join(ensemble.member_names)}, greedy; medians of {num_repetitions} runs and more", style="dim")
        findings = []
        with err.status("measuring ..."):
            for finding in benchmark.run():
                findings.append(finding)
                out.print(describe_finding(finding))
        if json_file is not None:
            json_file.write_text(json.dumps(report(ensemble, findings), indent=2) + "\n", encoding="utf-8")
    out.print(findings_table(findings))


def describe_finding(finding: Finding) -> Text:
    """One finding in a line or two, as soon as it is there."""
    figures = ", ".join(f"{name} {value:.2f} ms" for name, value in finding.milliseconds.items())
    lines = [f"{finding.value.median:.2f} {finding.name}", *filter(None, (figures, finding.note))]
    return Text("\n    ".join(lines))


def findings_table(findings: Sequence[Finding]) -> Table:
    """Every ratio with its spread and its target."""
    table = Table("measured", "target", "what", title="Decoding", title_justify="left", title_style="bold")
    for finding in findings:
        value = finding.value
        spread = f" ({value.low:.2f} to {value.high:.2f})" if len(value.runs) > 1 else ""
        style = "green" if finding.is_met else "red"
        measured = Text(f"{value.median:.2f}{spread}", style=style)
        table.add_row(measured, f"{finding.wants} {finding.target:g}", Text(finding.name))
    return table


def report(ensemble: Ensemble, findings: Sequence[Finding]) -> dict[str, Any]:
    """Everything measured, as JSON values."""
    from deepen_llm.bench.timing import describe_machine

    entries = [
        {**dataclasses.asdict(finding), "median": finding.value.median, "is_met": finding.is_met}
        for finding in findings
    ]
    return {"machine": describe_machine(), "ensemble": ensemble.identity, "findings": entries}


def _first_two_starters() -> list[str | Path | MemberConfig]:
    from deepen_llm.starter import model_paths

    return [*model_paths()[:2]]


def check_several(ensemble: Ensemble) -> None:
    """Refuse an ensemble of one.

    Raises:
        ConfigError: There is nothing to fuse.
    """
    if len(ensemble.members) < 2:
        raise ConfigError(f"a benchmark of an ensemble needs two members; got {len(ensemble.members)}: add a --model")


def check_writable(file: Path | None, option: str) -> None:
    """Find out before minutes of measuring that the figures have nowhere to go.

    Raises:
        ConfigError: It names the option that gave the file.
    """
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        raise ConfigError(f"{option} must name a file in a folder that exists; got {str(file)!r}")
