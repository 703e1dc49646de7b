"""`deepen bench gguf`: a GGUF file beside the same model in transformers, another member, and llama.cpp by itself."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from typing import Annotated

import typer

from deepen_llm.cli.bench.decode import describe_finding, findings_table
from deepen_llm.cli.bench.figures import JsonFile, check_figures_file, write_figures
from deepen_llm.cli.console import err, loading, out
from deepen_llm.members.gguf.settings import GGUFConfig


def gguf(
    *,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The GGUF file.")],
    reference: Annotated[str, typer.Option("--reference", help="The same model as transformers has it, a folder.")],
    other: Annotated[str | None, typer.Option("--other", help="The member beside it. None: a bundled one.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="llama.cpp's threads.")] = None,
    num_tokens: Annotated[int, typer.Option("--tokens", "-n", min=8, help="Tokens of each answer.")] = 32,
    num_repetitions: Annotated[int, typer.Option("--repetitions", "-r", min=1, help="Runs of each case.")] = 9,
    json_file: JsonFile = None,
) -> None:
    """Measure a GGUF file: its speed, what another member adds, and whether it says what llama.cpp says.

    Cases take turns and ratios are of neighbours in time, so that a busy machine disturbs them little.

    Examples:
    - `deepen bench gguf SmolLM2-135M-Instruct.Q4_1.gguf --reference path/to/SmolLM2-135M-Instruct`
    """
    check_figures_file(json_file)
    config = GGUFConfig(model=file, threads=threads)
    with loading("the models"):
        from deepen_llm.bench.gguf import GGUFBenchmark
        from deepen_llm.starter import model_paths

        benchmark = GGUFBenchmark(
            config, reference, other or str(model_paths()[0]), num_tokens=num_tokens, num_repetitions=num_repetitions
        )
    findings = []
    with closing(benchmark), err.status("measuring ..."):
        for finding in benchmark.run():
            findings.append(finding)
            out.print(describe_finding(finding))
    values = [dataclasses.asdict(one) | {"median": one.value.median, "is_met": one.is_met} for one in findings]
    write_figures(json_file, {"file": file, "findings": values})
    out.print(findings_table(findings))
