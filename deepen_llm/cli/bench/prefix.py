"""`deepen bench prefix`: what it saves that a beginning is read once."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from deepen_llm.cli.bench.decode import describe_finding, findings_table, report
from deepen_llm.cli.bench.figures import JsonFile, check_figures_file, write_figures
from deepen_llm.cli.console import err, open_ensemble, out, say
from deepen_llm.cli.parameters import ENSEMBLE, take_options
from deepen_llm.frontends.source import EnsembleSource


@take_options(source=ENSEMBLE)
def prefix(
    *,
    source: EnsembleSource,
    num_context: Annotated[int, typer.Option("--context", min=100, help="Tokens before a chat's first reply.")] = 1000,
    num_questions: Annotated[int, typer.Option("--questions", min=1, help="Questions at the same time.")] = 16,
    num_tokens: Annotated[int, typer.Option("--tokens", "-n", min=1, help="Tokens of each of their answers.")] = 64,
    num_repetitions: Annotated[int, typer.Option("--repetitions", "-r", min=1, help="Runs of each case.")] = 3,
    json_file: JsonFile = None,
) -> None:
    """Measure what is saved where requests begin alike: the next turn of a chat, questions behind the same examples.

    Cases take turns and ratios are of neighbours in time, so that a busy machine disturbs them little.

    Examples:
    - `deepen bench prefix`
    - `deepen bench prefix -m path/to/one -m path/to/other --context 2000 --json prefix.json`
    """
    check_figures_file(json_file)
    with open_ensemble(source) as ensemble:
        from deepen_llm.bench.prefix import PrefixBenchmark

        benchmark = PrefixBenchmark(
            ensemble,
            num_context=num_context,
            num_questions=num_questions,
            num_tokens=num_tokens,
            num_repetitions=num_repetitions,
        )
        say(f"{' + '.join(ensemble.member_names)}, greedy; medians of {num_repetitions} runs", style="dim")
        findings = []
        with closing(benchmark), err.status("measuring ..."):
            for finding in benchmark.run():
                findings.append(finding)
                out.print(describe_finding(finding))
        write_figures(json_file, report(ensemble, findings))
    out.print(findings_table(findings, "Beginnings that are read once"))
