"""`deepen bench serve`: what a server adds to its engine."""

from __future__ import annotations

from typing import Annotated

import typer

from deepen_llm.cli.bench.decode import describe_finding, findings_table, report
from deepen_llm.cli.bench.figures import JsonFile, check_figures_file, write_figures
from deepen_llm.cli.console import err, loading, open_ensemble, out
from deepen_llm.cli.parameters import ENSEMBLE, take_options
from deepen_llm.frontends.source import EnsembleSource


@take_options(source=ENSEMBLE)
def serve(
    *,
    source: EnsembleSource,
    num_users: Annotated[int, typer.Option("--users", min=2, help="How many ask at the same time.")] = 32,
    num_tokens: Annotated[int, typer.Option("--tokens", "-n", min=8, help="Tokens of each answer.")] = 64,
    num_repetitions: Annotated[int, typer.Option("--repetitions", "-r", min=1, help="Runs of each case.")] = 5,
    json_file: JsonFile = None,
) -> None:
    """Measure a server on loopback beside the same ensemble used directly: time to tokens, and tokens a second.

    The server runs in a process of its own, its users in this one. Cases take turns and ratios are of neighbours in
    time, so that a busy machine disturbs them little.

    Examples:
    - `deepen bench serve`
    - `deepen bench serve -m path/to/one -m path/to/other --users 64 --json serve.json`
    """
    check_figures_file(json_file)
    with open_ensemble(source) as ensemble:
        with loading("the same ensemble in a server"):
            from deepen_llm.bench.serve import ServeBenchmark
            from deepen_llm.bench.serve_process import serving

            server = serving(ensemble.config)
        findings = []
        with server as address, err.status("measuring ..."):
            benchmark = ServeBenchmark(
                ensemble, address, num_users=num_users, num_tokens=num_tokens, num_repetitions=num_repetitions
            )
            for finding in benchmark.run():
                findings.append(finding)
                out.print(describe_finding(finding))
        write_figures(json_file, report(ensemble, findings))
    out.print(findings_table(findings, "Serving"))
