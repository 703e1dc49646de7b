"""`deepen bench speculation`: what reading ahead saves, beside the members by themselves."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from typing import Annotated

import typer

from deepen_llm.cli.bench.decode import describe_finding, findings_table, report, two_starters
from deepen_llm.cli.bench.figures import JsonFile, check_figures_file, check_several, write_figures
from deepen_llm.cli.console import err, loading, open_ensemble, out, say
from deepen_llm.cli.parameters import ENSEMBLE, take_options
from deepen_llm.frontends.source import EnsembleSource


@take_options(source=ENSEMBLE)
def speculation(
    *,
    source: EnsembleSource,
    num_tokens: Annotated[int, typer.Option("--tokens", "-n", min=8, help="Tokens of each answer.")] = 128,
    json_file: JsonFile = None,
) -> None:
    """Measure reading ahead: chats and stories with it and without, beside the members' own `generate`.

    Without models, two of the bundled ones. Every text is answered once by everybody, one after the other, and each
    ratio is of one text, so that a busy machine disturbs them little. Takes some minutes.

    Examples:
    - `deepen bench speculation`
    - `deepen bench speculation -m path/to/large -m path/to/small --json speculation.json`
    """
    check_figures_file(json_file)
    if source.is_starter:
        source = dataclasses.replace(source, model=two_starters())
    with open_ensemble(source) as ensemble:
        check_several(ensemble)
        with loading("each member once more"):
            from deepen_llm.bench.speculation import SpeculationBenchmark

            benchmark = SpeculationBenchmark(ensemble, num_tokens=num_tokens)
        say(f"{' + '.join(ensemble.member_names)}, greedy; medians of eight texts of a kind", style="dim")
        findings = []
        with closing(benchmark), err.status("measuring ..."):
            for finding in benchmark.run():
                findings.append(finding)
                out.print(describe_finding(finding))
        write_figures(json_file, report(ensemble, findings))
    out.print(findings_table(findings, "Reading ahead"))
