"""`deepen bench`: measurements, one file each."""

from __future__ import annotations

import typer

from deepen_llm.cli.bench import decode, fusion, gguf, prefix, retrieval, serve, soak, speculation, structure

bench = typer.Typer(
    name="bench",
    help="Measure what an ensemble costs, a token of decoding, a step of fusion alone or a structured answer, what is "
    "saved where requests begin alike, what a server adds, what it answers about documents, and what hours of mixed "
    "requests leave behind.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
for command in (
    decode.decode,
    fusion.fusion,
    gguf.gguf,
    prefix.prefix,
    retrieval.retrieval,
    serve.serve,
    speculation.speculation,
    structure.structure,
    soak.soak,
):
    bench.command()(command)
