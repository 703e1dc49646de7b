"""`deepen bench fusion`: what a step of relative fusion costs, and how close it is to the dense reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deepen_llm.cli.bench.figures import JsonFile, check_figures_file, check_several, write_figures
from deepen_llm.cli.bench.fusion_tables import describe_figures, figures_table, growth_line
from deepen_llm.cli.console import err, open_ensemble, out
from deepen_llm.cli.parameters import ENSEMBLE, take_options
from deepen_llm.errors import ConfigError, quote
from deepen_llm.frontends.source import EnsembleSource
from deepen_llm.text_file import check_writable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from deepen_llm.bench.fusion import FusionFigures
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.fusion.relative.member_space import MemberSpace
    from deepen_llm.vocabulary import Vocabulary

HIDDEN = 896
MIN_STEPS = 32
"""So many steps are made or recorded even if fewer are compared: each timed step is another one."""
NUM_AT_ONCE = 32
NUM_QUESTIONS = 200
"""Questions of each starter task at most."""


TOKENIZERS_HELP = "Two tokenizers, folders or hub names; embeddings are then made up."
SIZE_HELP = "Keep so many tokens of each tokenizer; once for each size to measure."
STEPS_HELP = "Steps compared with the dense float64 reference; 0: none."
REFERENCE_HELP = "Compare with a search over every token as well; it takes longest."
PLOT_HELP = "Draw cost against vocabulary size into this file, .png or .svg."

Tokenizers = Annotated[tuple[str, str] | None, typer.Option("--tokenizers", "-t", help=TOKENIZERS_HELP)]
Sizes = Annotated[list[int] | None, typer.Option("--size", min=64, help=SIZE_HELP)]
Hidden = Annotated[
    int | None, typer.Option("--hidden", min=8, help="Dimensions of made-up embeddings.", show_default=str(HIDDEN))
]
Steps = Annotated[int, typer.Option("--steps", min=0, help=STEPS_HELP)]
EveryToken = Annotated[bool, typer.Option("--every-token", help=REFERENCE_HELP)]
Repetitions = Annotated[int, typer.Option("--repetitions", "-r", min=1, help="Timed steps.")]
Search = Annotated[
    Literal["multiplicative", "gradient"], typer.Option("--search", help="gradient is the published one.")
]
Form = Annotated[Literal["auto", "dense", "sampled"], typer.Option("--form", help="As in FusionConfig.")]
PlotFile = Annotated[Path | None, typer.Option("--plot", help=PLOT_HELP)]


@take_options(source=ENSEMBLE)
def fusion(
    *,
    source: EnsembleSource,
    tokenizers: Tokenizers = None,
    sizes: Sizes = None,
    hidden: Hidden = None,
    num_compared: Steps = 64,
    every_token: EveryToken = False,
    num_repetitions: Repetitions = 20,
    search: Search = "multiplicative",
    form: Form = "auto",
    json_file: JsonFile = None,
    plot_file: PlotFile = None,
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
    _check_files(json_file, plot_file)
    _check_options(source, tokenizers, made_up={"--size": sizes, "--hidden": hidden})
    num_steps = max(num_compared, MIN_STEPS)
    made = _synthetic(tokenizers, sizes or [], hidden or HIDDEN, num_steps) if tokenizers else None
    settings = {"search": search, "form": form, "num_compared": num_compared, "num_repetitions": num_repetitions}
    figures = []
    for members, logits in made or _recorded(source, num_steps):
        figures.append(_measure(members, logits, compares_every_token=every_token, **settings))
        out.print(figures_table(figures[-1]))
    if (growth := growth_line(figures)) is not None:
        out.print(growth)
    write_figures(json_file, describe_figures(figures))
    if plot_file is not None:
        from deepen_llm.bench.plot import plot_cost

        plot_cost(figures, plot_file)


def _measure(members: Sequence[MemberSpace], logits: Sequence[Tensor], **settings: Any) -> FusionFigures:
    """Every figure of one case; a spinner says what is measured."""
    with err.status("measuring ...") as status:
        from deepen_llm.bench.fusion import FusionBenchmark

        return FusionBenchmark(members, logits, **settings).run(lambda what: status.update(f"{what} ..."))


def _check_files(json_file: Path | None, plot_file: Path | None) -> None:
    """Find out before minutes of measuring that something cannot be written or drawn."""
    check_figures_file(json_file)
    if plot_file is not None:
        check_writable(plot_file, "--plot")
        from deepen_llm.bench.plot import check_matplotlib

        check_matplotlib()


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
    except Exception as error:  # of a folder that holds something else, transformers lets through whatever comes
        raise ConfigError(
            f"--tokenizers must name folders or hub names of tokenizers; {quote(name)} cannot be read as one "
            f"({type(error).__name__}: {error}): give another one"
        ) from error
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
