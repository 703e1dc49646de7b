"""`deepen bench`: measurements, one file each."""

from __future__ import annotations

import typer

from deepen_llm.cli.bench.decode import decode
from deepen_llm.cli.bench.fusion import fusion
from deepen_llm.cli.bench.retrieval import retrieval
from deepen_llm.cli.bench.structure import structure

bench = typer.Typer(
    name="bench",
    help="Measure what an ensemble costs, a token of decoding, a step of fusion alone or a structured answer, and what "
    "it answers about documents.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
for command in (decode, fusion, retrieval, structure):
    bench.command()(command)
