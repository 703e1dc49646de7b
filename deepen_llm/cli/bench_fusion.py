"""`deepen bench fusion`: what a step of relative fusion costs, and how close it is to the dense reference."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from deepen_llm.cli.bench import check_several, check_writable
from deepen_llm.cli.console import err, out
from deepen_llm.cli.inspect import format_bytes
from deepen_llm.cli.opening import EnsembleSource
from deepen_llm.cli.parameters import ENSEMBLE, take_options
from deepen_llm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from deepen_llm.bench.fusion import FusionFigures
    from deepen_llm.fusion.relative import MemberSpace
    from deepen_llm.vocabulary import Vocabulary


@take_options(source=ENSEMBLE)
def fusion(
    *,
    source: EnsembleSource,
    tokenizers: Annotated[
        tuple[str, str] | None,
        typer.Option("--tokenizers", "-t", help="Two tokenizers, folders or hub names; embeddings are then made up."),
    ] = None,
    sizes: Annotated[
        list[int] | None,
        typer.Option("--size", min=64, help="Cut the tokenizers to so many tokens; once for each size to measure."),
    ] = None,
    hidden: Annotated[int, typer.Option("--hidden", min=8, help="Dimensions of made-up embeddings.")] = 896,
    num_compared: Annotated[
        int, typer.Option("--steps", min=1, help="Steps compared with the dense float64 reference.")
    ] = 64,
    num_repetitions: Annotated[int, typer.Option("--repetitions", "-r", min=1, help="Timed steps.")] = 20,
    search: Annotated[
        Literal["multiplicative", "gradient"], typer.Option("--search", help="gradient is the published one.")
    ] = "multiplicative",
    form: Annotated[Literal["auto", "dense", "sampled"], typer.Option("--form", help="As in FusionConfig.")] = "auto",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file as well.")] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", help="Draw cost against vocabulary size into this file, .png or .svg.")
    ] = None,
) -> None:
    """Measure a step of relative fusion: build, memory, time, and distance to the dense float64 reference.

    With --tokenizers, embeddings and distributions are made up for the tokens of real tokenizers. Otherwise models
    run, and their steps are recorded while they answer: the bundled ones held-out questions, others a few sentences.

    Examples:
    - `deepen bench fusion`
    - `deepen bench fusion --tokenizers path/to/one path/to/other --size 32768`
    - `deepen bench fusion -t org/one org/other --size 8192 --size 32768 --size 131072 --plot cost.png`
    """
    check_writable(json_file, "--json")
    check_writable(plot_file, "--plot")
    figures = []
    cases = _synthetic(tokenizers, sizes or [], hidden, num_compared) if tokenizers else _recorded(source)
    for members, logits in cases:
        with err.status("measuring ...") as status:
            from deepen_llm.bench.fusion import FusionBenchmark

            benchmark = FusionBenchmark(
                members,
                logits,
                search=search,
                form=form,
                num_compared=num_compared,
                num_repetitions=num_repetitions,
            )
            figures.append(benchmark.run(lambda what: status.update(f"{what} ...")))
        out.print(figures_table(figures[-1]))
    if json_file is not None:
        json_file.write_text(json.dumps(report(figures), indent=2) + "\n", encoding="utf-8")
    if plot_file is not None:
        from deepen_llm.bench.plot import plot_cost

        plot_cost(figures, plot_file)


def _synthetic(
    names: tuple[str, str], sizes: Sequence[int], hidden: int, num_steps: int
) -> list[tuple[list[MemberSpace], list[Tensor]]]:
    """Made-up members and logits, for each size."""
    from deepen_llm.bench.synthetic import make_logits, make_members

    with err.status("making up members ..."):
        tables = [_read_vocabulary(name).tokens for name in names]
        cases = []
        for size in sizes or [max(map(len, tables))]:
            members = make_members([tokens[:size] for tokens in tables], hidden)
            cases.append((members, make_logits(members, max(num_steps, 32))))
    return cases


def _read_vocabulary(name: str) -> Vocabulary:
    from transformers import AutoTokenizer

    from deepen_llm.vocabulary import Vocabulary

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--tokenizers must name folders or hub names of tokenizers; {name!r}: {error}") from error
    return Vocabulary.from_tokenizer(tokenizer, name=name)


def _recorded(source: EnsembleSource) -> list[tuple[list[MemberSpace], list[Tensor]]]:
    """Members that run, with the steps recorded; the main model first."""
    with source.open() as ensemble, err.status("recording steps ..."):
        check_several(ensemble)
        from deepen_llm.assembly import describe_spaces
        from deepen_llm.bench.recording import record_steps, starter_prompts

        logits = record_steps(ensemble, starter_prompts()) if source.is_starter else record_steps(ensemble)
        config = ensemble.config.fusion
        members = describe_spaces(ensemble.members, config)
        members = [member.with_eos_anchor() for member in members] if config.align_eos else members
        main = ensemble.member_names.index(ensemble.main_name)
        order = [main, *(index for index in range(len(members)) if index != main)]
        return [([members[index] for index in order], [logits[index] for index in order])]


def figures_table(figures: FusionFigures) -> Table:
    """Everything measured, a line each."""
    sizes = " + ".join(f"{number:,}" for number in figures.num_tokens)
    title = f"{sizes} tokens, {figures.num_anchors:,} anchors, {figures.form} form, {figures.search} search"
    table = Table("what", "measured", title=title, title_justify="left", title_style="bold")
    table.add_row("build", f"{figures.build_s:.1f} s; from the store {figures.restart_s:.1f} s")
    table.add_row("memory a member", ", ".join(map(format_bytes, figures.member_bytes)))
    for name, spread in (
        ("one step", figures.step_ms),
        ("of that, softmax over the logits", figures.softmax_ms),
        ("one step of 32 sequences", figures.batch_ms),
        ("dense published form, one step", figures.dense_published_ms),
    ):
        text = "does not fit" if spread is None else f"{spread.median:.2f} ms ({spread.low:.2f} to {spread.high:.2f})"
        table.add_row(name, text)
    if figures.dense_published_ms is not None:
        table.add_row("times faster than that", f"{figures.dense_published_ms.median / figures.step_ms.median:.0f}")
    if (found := figures.comparison) is None:
        table.add_row("dense float64 reference", "does not fit")
    else:
        table.add_row(f"best token as the reference, {found.num_steps} steps", f"{found.share_equal:.2%}")
        table.add_row("KL divergence to it", f"median {found.kl_median:.1e}, 99th percentile {found.kl_p99:.1e}")
    return table


def report(figures: Sequence[FusionFigures]) -> dict[str, Any]:
    """Everything measured, as JSON values."""
    from deepen_llm.bench.timing import describe_machine

    return {"machine": describe_machine(), "figures": [dataclasses.asdict(entry) for entry in figures]}
