"""`deepen calibrate`: main model, weights, temperatures and trust from a development set, into an `ensemble.yaml`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from deepen_llm.cli.calibrate_tables import describe_choice, label_choice, members_table, trials_table
from deepen_llm.cli.console import err, go_offline, open_ensemble, out, say
from deepen_llm.cli.parameters import ENSEMBLE, check_new, take_options
from deepen_llm.frontends.source import EnsembleSource
from deepen_llm.text_file import check_readable

if TYPE_CHECKING:
    from deepen_llm.calibration import Calibration, Choice, DevelopmentSet, OnScored, Trials
    from deepen_llm.ensemble import Ensemble

FILE_HELP = "Prompts with answers (.jsonl) or running text. With the bundled models, if not given: questions to them."
OUT_HELP = "The file to write."
STEP_HELP = "How fine the weights are: 1 divided by a whole number."
UNIFORM_HELP = "Choose nothing: score uniform weights and write them, however small the file is."
DELIMITER_HELP = (
    "What joins a prompt and its answer where neither has a space there; a space if not given, in a chat nothing."
)
CHAT_HELP = "Ask in the members' chat templates."
FIXED_HELP = "Choose fixed weights, which do not learn from prompt and answer."

File = Annotated[Path | None, typer.Argument(help=FILE_HELP, metavar="FILE", show_default=False)]
Out = Annotated[Path, typer.Option("--out", "-o", help=OUT_HELP)]
Chat = Annotated[bool, typer.Option("--chat", help=CHAT_HELP)]
Fixed = Annotated[bool, typer.Option("--fixed", help=FIXED_HELP)]
Step = Annotated[float, typer.Option("--step", min=0.01, max=0.5, help=STEP_HELP)]
Uniform = Annotated[bool, typer.Option("--uniform", help=UNIFORM_HELP)]
Delimiter = Annotated[str | None, typer.Option("--delimiter", help=DELIMITER_HELP, show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Write over a file that is there.")]


@take_options(source=ENSEMBLE)
def calibrate(
    file: File = None,
    *,
    source: EnsembleSource,
    out_file: Out = Path("ensemble.yaml"),
    chat: Chat = False,
    fixed: Fixed = False,
    step: Step = 0.1,
    uniform: Uniform = False,
    delimiter: Delimiter = None,
    force: Force = False,
) -> None:
    """Choose main model, weights, temperatures and trust on a development set, and write them to an ensemble.yaml.

    The development set is a file of JSON lines (`{"prompt": "The capital of France is", "answer": "Paris"}`, at least
    30 of them with different answers) or a text of your kind, cut into pieces and scored byte for byte. Keep it apart
    from whatever you report on: the winner of a search looks better where it was chosen than it is. With `--chat` each
    prompt is a message to every member in its own chat template; a row may be `{"messages": [...], "answer": "..."}`.

    Each choice is scored by the bits per byte of the answers. First every member alone gets the temperature that suits
    it, where that gains something beyond doubt. Then every member is tried alone and as the main model; then one
    coordinate moves at a time while that helps: main model, prior of the weights, `eta` and `alone` (how they learn),
    trust. What is found is written only where its gain over the defaults is beyond doubt (95% bootstrap interval above
    0); otherwise the defaults are. Where answers are short, right ones count, by exact match: among settings too near
    to tell apart the most of them win, and with fewer than the defaults have nothing is taken. The same file gives the
    same choice. `--main` keeps the main model; the fusion method is that of `--config`, or the default.

    Examples:
    - `deepen calibrate`
    - `deepen calibrate questions.jsonl -m org/main-model -m org/other-model`
    - `deepen calibrate questions.jsonl -m org/main-model -m org/other-model --chat`
    - `deepen calibrate stories.txt --config ensemble.yaml --main main-model --out tuned.yaml --step 0.05 --fixed`
    - `deepen calibrate few.jsonl -m org/main-model -m org/other-model --uniform`

    Then, for example, `deepen chat --config ensemble.yaml`.
    """
    num_parts = _count_parts(step)
    _check_arguments(file, source, out_file, force=force)
    if source.is_starter:
        go_offline()
    development = _load(file, delimiter, in_chat=chat)
    with open_ensemble(source) as ensemble:
        say(f"{development.name}: {len(development.rows)} rows; scored by the bits per byte of the answers")
        with _progress(len(development.rows)) as report:
            trials = _make_trials(ensemble, development, report)
            start = _start(ensemble, fixed=fixed, uniform=uniform)
            if uniform:
                calibration = _measure(trials, start)
            else:
                calibration = _search(
                    ensemble, development, trials, start, num_parts, keep_main=source.main is not None
                )
        names = ensemble.member_names
        out.print(members_table(calibration, names))
        out.print(trials_table(calibration))
        for line in describe_choice(calibration, names, len(development.rows)):
            say(line)
        bits = calibration.chosen.bits_per_byte
        comment = (
            f"Chosen by deepen calibrate on {development.name} ({len(development.rows)} rows).\n"
            f"Bits per byte of the answers: {bits.value:.4f}, 95% interval {bits.low:.4f} to {bits.high:.4f}"
        )
        trials.configure(calibration.chosen.choice).save(out_file, comment)
    say(f"Written to {out_file}", style="bold")


def _count_parts(step: float) -> int:
    parts = round(1 / step)
    if abs(parts * step - 1) > 1e-6:
        raise typer.BadParameter(f"--step must be 1 divided by a whole number, such as 0.1 or 0.05; got {step:g}")
    return parts


def _check_arguments(file: Path | None, source: EnsembleSource, out_file: Path, *, force: bool) -> None:
    """Find out before minutes of scoring what is missing."""
    if source.weights is not None:
        raise typer.BadParameter("calibrate chooses the weights: leave --weight out")
    if file is None and not source.is_starter:
        raise typer.BadParameter("give a development set: a .jsonl file of prompts with answers, or a text")
    if file is not None:
        check_readable(file, "the development set")
    check_new(out_file, "--out", force=force)


def _load(file: Path | None, delimiter: str | None, *, in_chat: bool) -> DevelopmentSet:
    from deepen_llm.calibration import DevelopmentSet

    if file is not None:
        return DevelopmentSet.load(file, delimiter=delimiter, in_chat=in_chat)
    from deepen_llm.starter.development import development_pairs

    bundled = DevelopmentSet.of_pairs("questions to the bundled models", development_pairs())
    return bundled.in_chat() if in_chat else bundled


def _make_trials(ensemble: Ensemble, development: DevelopmentSet, report: OnScored) -> Trials:
    from deepen_llm.calibration import Trials

    return Trials(ensemble.members, ensemble.config, development, report)


def _start(ensemble: Ensemble, *, fixed: bool, uniform: bool) -> Choice:
    from deepen_llm.calibration import start_of

    return start_of(ensemble, fixed=fixed, uniform=uniform)


def _measure(trials: Trials, start: Choice) -> Calibration:
    from deepen_llm.calibration import measure_start

    return measure_start(trials, start)


def _search(
    ensemble: Ensemble, development: DevelopmentSet, trials: Trials, start: Choice, num_parts: int, *, keep_main: bool
) -> Calibration:
    from deepen_llm.calibration import calibrate

    others = () if keep_main else tuple(at for at in range(len(ensemble.members)) if at != start.main)
    return calibrate(
        trials,
        development,
        start,
        other_mains=others,
        num_parts=num_parts,
        count_right=trials.count_right if development.has_short_answers else None,
    )


@contextmanager
def _progress(num_rows: int) -> Iterator[OnScored]:
    """A bar for the trial that runs, with its number and its choice."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        bar = progress.add_task("", total=num_rows)
        num_begun = 0

        def report(choice: Choice, number: int) -> None:
            nonlocal num_begun
            if number == 0:
                num_begun += 1
                progress.update(bar, description=f"trial {num_begun}: {label_choice(choice)}", completed=0)
            progress.advance(bar, number)

        yield report
