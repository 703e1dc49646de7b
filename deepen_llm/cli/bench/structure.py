"""`deepen bench structure`: what structured answers cost, and whether they always parse."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from deepen_llm.cli.bench.figures import JsonFile, check_figures_file, write_figures
from deepen_llm.cli.console import err, open_ensemble, out
from deepen_llm.cli.narrow_table import NarrowTable
from deepen_llm.cli.parameters import ENSEMBLE, read_schema, take_options
from deepen_llm.frontends.source import EnsembleSource

if TYPE_CHECKING:
    from deepen_llm.bench.structure import StructureFigures

SCHEMA_HELP = "A JSON schema: a file, or the schema itself. An order with its items if not given."


@take_options(source=ENSEMBLE)
def structure(
    *,
    source: EnsembleSource,
    schema: Annotated[str | None, typer.Option("--json-schema", help=SCHEMA_HELP, show_default=False)] = None,
    num_tokens: Annotated[int, typer.Option("--tokens", "-n", min=8, help="The limit of an answer.")] = 200,
    num_seeds: Annotated[int, typer.Option("--seeds", min=1, help="Answers at each of the temperatures 0, 1, 5.")] = 20,
    num_repetitions: Annotated[int, typer.Option("--repetitions", "-r", min=1, help="Timed runs of each case.")] = 5,
    json_file: JsonFile = None,
) -> None:
    """Measure answers by a JSON schema: compiling it, the mask of each token, time per token, and whether all parse.

    Free answers take turns with structured ones. What a structure forces takes no forward pass, so that structured
    answers may well be the faster ones.

    Examples:
    - `deepen bench structure`
    - `deepen bench structure -m org/main-model -m org/other-model --json-schema person.json -n 400`
    """
    check_figures_file(json_file)
    wanted = {} if schema is None else {"schema": read_schema(schema)}
    with open_ensemble(source) as ensemble, err.status("measuring ...") as status:
        from deepen_llm.bench.structure import StructureBenchmark

        benchmark = StructureBenchmark(
            ensemble, num_tokens=num_tokens, num_seeds=num_seeds, num_repetitions=num_repetitions, **wanted
        )
        figures = benchmark.run(lambda what: status.update(f"{what} ..."))
    out.print(figures_table(figures))
    write_figures(json_file, dataclasses.asdict(figures))


def figures_table(figures: StructureFigures) -> NarrowTable:
    """One figure per line."""
    ratio = figures.time_ratio
    rows = [
        ("answers that parse", f"{figures.num_parsed} of {figures.num_answers}"),
        ("answers closed before their tokens ran out", f"{figures.num_shortened}"),
        ("tokens that the structure forces, without a forward pass", f"{figures.share_forced:.0%}"),
        ("time per token / that of free answers", f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"),
        ("mask and bookkeeping of a token", f"{1e6 * figures.mask_s:.0f} µs"),
        ("compiling the schema, once", f"{1e3 * figures.compile_s:.1f} ms"),
        ("tables over the vocabulary, once", f"{1e3 * figures.tables_s:.0f} ms"),
    ]
    return NarrowTable("Structured answers", ("measured", "figure"), rows)
