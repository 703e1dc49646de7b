"""`deepen bench`: measurements, one file each."""

from __future__ import annotations

import typer

from deepen_llm.cli.bench import decode, fusion, retrieval, structure

bench = typer.Typer(
    name="bench",
    help="Measure what an ensemble costs, a token of decoding, a step of fusion alone or a structured answer, and what "
    "it answers about documents.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
for command in (decode.decode, fusion.fusion, retrieval.retrieval, structure.structure):
    bench.command()(command)
