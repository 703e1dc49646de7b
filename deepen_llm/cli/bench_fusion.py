"""`deepen bench fusion`: what a step of relative fusion costs, and how close it is to the dense reference."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from deepen_llm.cli.bench import check_several, check_writable
from deepen_llm.cli.console import err, out
from deepen_llm.cli.inspect import format_bytes
from deepen_llm.cli.opening import open_ensemble
from deepen_llm.cli.parameters import ENSEMBLE, take_options
from deepen_llm.errors import ConfigError
from deepen_llm.source import EnsembleSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from deepen_llm.bench.fusion import FusionFigures
    from deepen_llm.bench.targets import Target
    from deepen_llm.bench.timing import Spread
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.fusion.relative.member_space import MemberSpace
    from deepen_llm.vocabulary import Vocabulary

HIDDEN = 896
MIN_STEPS = 32
"""So many steps are made or recorded even if fewer are compared: each timed step is another one."""
NUM_AT_ONCE = 32
NUM_QUESTIONS = 200
"""Questions of each starter task at most."""


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
        typer.Option("--size", min=64, help="Keep so many tokens of each tokenizer; once for each size to measure."),
    ] = None,
    hidden: Annotated[
        int | None,
        typer.Option("--hidden", min=8, help="Dimensions of made-up embeddings.", show_default=str(HIDDEN)),
    ] = None,
    num_compared: Annotated[
        int, typer.Option("--steps", min=0, help="Steps compared with the dense float64 reference; 0: none.")
    ] = 64,
    every_token: Annotated[
        bool, typer.Option("--every-token", help="Compare with a search over every token as well; it takes longest.")
    ] = False,
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
    run, and their steps are recorded while they answer: the bundled ones held-out questions, others go on from
    openings of stories. Each timed step is another one than that before.

    The reference is the same search over all anchors in float64, for which every row of the matrices is made once:
    a minute at 32k tokens, an hour at 200k (--steps 0 leaves it out). The dense published form is timed where its
    matrices take at most 7 GB.

    Examples:
    - `deepen bench fusion`: the bundled models
    - `deepen bench fusion --steps 2000 --search gradient`: as many steps as tell whether the targets are reached
    - `deepen bench fusion -m path/to/one -m path/to/other --form sampled`
    - `deepen bench fusion --tokenizers path/to/one path/to/other --size 32768`
    - `deepen bench fusion -t org/one org/other --size 8192 --size 32768 --size 131072 --steps 0 --plot cost.png`
    """
    check_writable(json_file, "--json")
    check_writable(plot_file, "--plot")
    if plot_file is not None:
        from deepen_llm.bench.plot import check_matplotlib

        check_matplotlib()
    _check_options(source, tokenizers, made_up={"--size": sizes, "--hidden": hidden})
    figures = []
    num_steps = max(num_compared, MIN_STEPS)
    cases = (
        _synthetic(tokenizers, sizes or [], hidden or HIDDEN, num_steps) if tokenizers else _recorded(source, num_steps)
    )
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
                compares_every_token=every_token,
            )
            figures.append(benchmark.run(lambda what: status.update(f"{what} ...")))
        out.print(figures_table(figures[-1]))
    _print_growth(figures)
    _write(figures, json_file, plot_file)


def _write(figures: Sequence[FusionFigures], json_file: Path | None, plot_file: Path | None) -> None:
    """The figures as JSON and as a picture, where asked for."""
    if json_file is not None:
        json_file.write_text(json.dumps(report(figures), indent=2) + "\n", encoding="utf-8")
    if plot_file is not None:
        from deepen_llm.bench.plot import plot_cost

        plot_cost(figures, plot_file)


def _check_options(
    source: EnsembleSource, tokenizers: tuple[str, str] | None, *, made_up: dict[str, object | None]
) -> None:
    """Refuse what would be passed over in silence."""
    if tokenizers is not None and source != EnsembleSource("starter"):
        raise typer.BadParameter("give either --tokenizers or models (--model, --config and what goes with them)")
    given = [name for name, value in made_up.items() if value]
    if tokenizers is None and given:
        raise typer.BadParameter(f"{' and '.join(given)} can only be given with --tokenizers")


def _synthetic(
    names: tuple[str, str], sizes: Sequence[int], hidden: int, num_steps: int
) -> Iterator[tuple[list[MemberSpace], list[Tensor]]]:
    """Made-up members and logits, for each size.

    Raises:
        ConfigError: The tokens kept have none in common.
    """
    from deepen_llm.bench.synthetic import make_logits, make_members

    with err.status("reading tokenizers ..."):
        tables = [_read_vocabulary(name).tokens for name in names]
    for size in sizes or [max(map(len, tables))]:
        with err.status("making up members ..."):
            members = make_members([tokens[:size] for tokens in tables], hidden)
            logits = make_logits(members, num_steps)
        yield members, logits


def _read_vocabulary(name: str) -> Vocabulary:
    from transformers import AutoTokenizer

    from deepen_llm.vocabulary import Vocabulary

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--tokenizers must name folders or hub names of tokenizers; {name!r}: {error}") from error
    return Vocabulary.from_tokenizer(tokenizer, name=name)


def _recorded(source: EnsembleSource, num_steps: int) -> Iterator[tuple[list[MemberSpace], list[Tensor]]]:
    """Members that run, with at least so many of their steps if the prompts suffice; the main model first."""
    with open_ensemble(source) as ensemble:
        with err.status("recording steps ..."):
            check_several(ensemble)
            from deepen_llm.fusion.relative.build import describe_spaces
            from deepen_llm.fusion.relative.settings import RelativeConfig

            logits = _record(ensemble, _list_prompts(source), num_steps)
            fusion = ensemble.config.fusion
            config = fusion if isinstance(fusion, RelativeConfig) else RelativeConfig()
            members = describe_spaces(ensemble.members, config)
            members = [member.with_eos_anchor() for member in members] if config.align_eos else members
            main = ensemble.member_names.index(ensemble.main_name)
            order = [main, *(index for index in range(len(members)) if index != main)]
        yield [members[index] for index in order], [logits[index] for index in order]


def _list_prompts(source: EnsembleSource) -> list[str]:
    """Questions of all tasks in turn for the bundled models; for others, sentences that stop at each of their words."""
    from deepen_llm.bench.decode import SENTENCES
    from deepen_llm.bench.recording import starter_prompts

    if source.is_starter:
        prompts = starter_prompts(NUM_QUESTIONS)
        num_rounds = -(-len(prompts) // NUM_QUESTIONS)
        return [prompt for first in range(NUM_QUESTIONS) for prompt in prompts[first::NUM_QUESTIONS][:num_rounds]]
    openings = [sentence.split() for sentence in SENTENCES]
    longest = max(map(len, openings))
    return [" ".join(words[:stop]) for stop in range(longest, 1, -1) for words in openings if stop <= len(words)]


def _record(ensemble: Ensemble, prompts: Sequence[str], num_steps: int) -> list[Tensor]:
    """The members' logits over at least so many steps, or over all prompts."""
    import torch

    from deepen_llm.bench.recording import record_steps

    recorded: list[list[Tensor]] = []
    for begin in range(0, len(prompts), NUM_AT_ONCE):
        recorded.append(record_steps(ensemble, prompts[begin : begin + NUM_AT_ONCE]))
        if sum(len(logits[0]) for logits in recorded) >= num_steps:
            break
    return [torch.cat(rows) for rows in zip(*recorded, strict=True)]


def figures_table(figures: FusionFigures) -> Table:
    """Everything measured, a line each, beside the targets that apply."""
    from deepen_llm.bench.targets import find_targets

    targets = find_targets(figures)
    sizes = " + ".join(f"{number:,}" for number in figures.num_tokens)
    title = f"{sizes} tokens, {figures.num_anchors:,} anchors, {figures.form} form, {figures.search} search"
    table = Table("what", "measured", "target", title=title, title_justify="left", title_style="bold")

    def add(what: str, measured: str, name: str = "", limit: str = "{:g}", scale: float = 1.0) -> None:
        target = targets.get(name)
        shown = "" if target is None else f"{target.wants} {limit.format(scale * target.limit)}"
        table.add_row(what, Text(measured, style="" if target is None else _style(target)), shown)

    add("build", f"{figures.build_s:.1f} s", "build_s", "{:.0f} s")
    add("build from the store", f"{figures.restart_s:.1f} s", "restart_s", "{:.0f} s")
    add("memory a member", ", ".join(map(format_bytes, figures.member_bytes)), "member_bytes", "{:.0f} MB", 1e-6)
    add("one step", _show(figures.step_ms), "step_ms", "{:,.0f} µs", 1000)
    add("of that, softmax over the logits", _show(figures.softmax_ms))
    add("one step of 32 sequences", _show(figures.batch_ms), "batch_ms", "{:,.0f} µs", 1000)
    if (dense := figures.dense_published_ms) is None:
        add("dense published form", f"left out: its matrices take {format_bytes(figures.dense_bytes)}")
    else:
        add("dense published form, one step", _show(dense))
        add("times faster than that", f"{dense.median / figures.step_ms.median:.1f}", "times_faster", "{:.0f}")
    if (found := figures.comparison) is not None:
        name = f"best token as the reference, {found.num_steps:,} steps"
        add(name, f"{found.share_equal:.2%}", "share_equal", "{:.1%} of 2,000 steps")
        add("KL divergence to it, median", f"{found.kl_median:.1e}", "kl_median", "{:.0e}")
        add("KL divergence to it, 99th percentile", f"{found.kl_p99:.1e}", "kl_p99", "{:.0e}")
    if (found := figures.every_token) is not None:
        add("best token as a search over every token", f"{found.share_equal:.2%}")
        add("KL divergence to that, median and 99th percentile", f"{found.kl_median:.1e}, {found.kl_p99:.1e}")
    return table


def _show(spread: Spread) -> str:
    """Milliseconds as microseconds, median and range."""
    median, low, high = (f"{1000 * value:,.0f}" for value in (spread.median, spread.low, spread.high))
    return f"{median} µs ({low} to {high})"


def _style(target: Target) -> str:
    """Red for what is missed, green for what is reached, yellow for what is reached over too few steps to tell."""
    return "red" if not target.is_met else "green" if target.is_known else "yellow"


def _print_growth(figures: Sequence[FusionFigures]) -> None:
    from deepen_llm.bench.targets import find_growth

    if (growth := find_growth(figures)) is not None:
        text = f"growth of a step from 32k to 200k tokens, softmax aside: {growth.value:.2f} times, at most 2 wanted"
        out.print(Text(text, style=_style(growth)))


def report(figures: Sequence[FusionFigures]) -> dict[str, Any]:
    """Everything measured, as JSON values."""
    from deepen_llm.bench.targets import find_growth, find_targets
    from deepen_llm.bench.timing import describe_machine

    entries = [
        {
            **dataclasses.asdict(entry),
            "targets": [_describe_target(target) for target in find_targets(entry).values()],
        }
        for entry in figures
    ]
    growth = find_growth(figures)
    return {
        "machine": describe_machine(),
        "figures": entries,
        "growth": None if growth is None else _describe_target(growth),
    }


def _describe_target(target: Target) -> dict[str, Any]:
    return {**dataclasses.asdict(target), "is_met": target.is_met}
