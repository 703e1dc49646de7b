"""`deepen calibrate`: the main model, the weights and the trust from a development set, into an `ensemble.yaml`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from deepen_llm.cli.console import err, go_offline, open_ensemble, out, say
from deepen_llm.cli.parameters import ENSEMBLE, check_new, take_options
from deepen_llm.frontends.source import EnsembleSource

if TYPE_CHECKING:
    from deepen_llm.calibration import Calibration, Choice, DevelopmentSet, OnScored, Trial, Trials
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.evaluation import Estimate

FILE_HELP = "Prompts with answers (.jsonl) or running text. With the bundled models, if not given: questions to them."
OUT_HELP = "The file to write."
STEP_HELP = "How fine the weights are: 1 divided by a whole number."
UNIFORM_HELP = "Choose nothing: score uniform weights and write them, however small the file is."
DELIMITER_HELP = "What joins a prompt and its answer where neither has a space there; a space if not given."

File = Annotated[Path | None, typer.Argument(help=FILE_HELP, metavar="FILE", show_default=False)]
Out = Annotated[Path, typer.Option("--out", "-o", help=OUT_HELP)]
Step = Annotated[float, typer.Option("--step", min=0.01, max=0.5, help=STEP_HELP)]
Uniform = Annotated[bool, typer.Option("--uniform", help=UNIFORM_HELP)]
Delimiter = Annotated[str, typer.Option("--delimiter", help=DELIMITER_HELP, show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Write over a file that is there.")]


@take_options(source=ENSEMBLE)
def calibrate(
    file: File = None,
    *,
    source: EnsembleSource,
    out_file: Out = Path("ensemble.yaml"),
    step: Step = 0.1,
    uniform: Uniform = False,
    delimiter: Delimiter = " ",
    force: Force = False,
) -> None:
    """Choose the main model, the weights and the trust on a development set, and write them to an ensemble.yaml.

    The development set is a file of JSON lines (`{"prompt": "The capital of France is", "answer": "Paris"}`, at least
    30 of them with different answers) or a text of your kind, cut into pieces and scored byte for byte. Keep it apart
    from whatever you report on: the winner of a search looks better where it was chosen than it is.

    Each choice is scored by the mean log-probability of the answers. Every member is tried alone and as the main model
    of uniform weights; then one coordinate moves at a time while that helps. What is found is written only where its
    gain over uniform weights is beyond doubt (95% bootstrap interval above 0); otherwise uniform weights are. The same
    file gives the same choice. `--main` keeps the main model; the fusion method is that of `--config`, or the default.

    Examples:
    - `deepen calibrate`
    - `deepen calibrate questions.jsonl -m org/main-model -m org/other-model`
    - `deepen calibrate stories.txt --config ensemble.yaml --main main-model --out tuned.yaml --step 0.05`
    - `deepen calibrate few.jsonl -m org/main-model -m org/other-model --uniform`

    Then, for example, `deepen chat --config ensemble.yaml`.
    """
    num_parts = _count_parts(step)
    _check_arguments(file, source, out_file, force=force)
    if source.is_starter:
        go_offline()
    development = _load(file, delimiter)
    with open_ensemble(source) as ensemble:
        say(f"{development.name}: {len(development.rows)} rows; a score is the {development.unit}, more is better")
        with _progress(ensemble, len(development.rows)) as report:
            trials = _make_trials(ensemble, development, report)
            calibration = _run(
                ensemble, development, trials, num_parts, keep_main=source.main is not None, uniform=uniform
            )
        out.print(trials_table(calibration, ensemble.member_names))
        for line in describe_choice(calibration, ensemble.member_names):
            say(line)
        score = calibration.chosen.score
        comment = (
            f"Chosen by deepen calibrate on {development.name} ({len(development.rows)} rows).\n"
            f"{development.unit}: {score.value:.4f}, 95% interval {score.low:.4f} to {score.high:.4f}"
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
    check_new(out_file, "--out", force=force)


def _load(file: Path | None, delimiter: str) -> DevelopmentSet:
    from deepen_llm.calibration import DevelopmentSet

    if file is not None:
        return DevelopmentSet.load(file, delimiter=delimiter)
    from deepen_llm.starter.development import development_pairs

    return DevelopmentSet.of_pairs("questions to the bundled models", development_pairs())


def _make_trials(ensemble: Ensemble, development: DevelopmentSet, report: OnScored) -> Trials:
    from deepen_llm.calibration import Trials

    return Trials(ensemble.members, ensemble.config, development, report)


def _run(
    ensemble: Ensemble, development: DevelopmentSet, trials: Trials, num_parts: int, *, keep_main: bool, uniform: bool
) -> Calibration:
    """The search, or the one trial that was asked for."""
    from deepen_llm.calibration import calibrate, measure_uniform

    num_members, trust = len(ensemble.members), ensemble.config.fusion.trust
    main = ensemble.member_names.index(ensemble.main_name)
    if uniform:
        return measure_uniform(trials, num_members=num_members, main=main, trust=trust)
    others = () if keep_main else tuple(position for position in range(num_members) if position != main)
    return calibrate(
        trials,
        development,
        num_members=num_members,
        main=main,
        other_mains=others,
        trust=trust,
        num_parts=num_parts,
    )


@contextmanager
def _progress(ensemble: Ensemble, num_rows: int) -> Iterator[OnScored]:
    """A bar for the trial that runs, with its number and its choice."""
    names = ensemble.member_names
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        bar = progress.add_task("", total=num_rows)
        num_begun = 0

        def report(choice: Choice, number: int) -> None:
            nonlocal num_begun
            if number == 0:
                num_begun += 1
                weights = " ".join(f"{weight:.2f}" for weight in choice.weights)
                label = f"trial {num_begun}: main {names[choice.main]}, weights {weights}, trust {choice.trust:g}"
                progress.update(bar, description=label, completed=0)
            progress.advance(bar, number)

        yield report


def trials_table(calibration: Calibration, names: tuple[str, ...]) -> Table:
    """Everything that was tried, in order; what is written is marked. `exact`: what greedy decoding gets right."""
    table = Table(title="What was tried", title_justify="left", title_style="bold")
    for column in ("main", *names, "trust", "score", "95% interval", "exact"):
        table.add_column(Text(column), justify="left" if column == "main" else "right", no_wrap=True)
    for trial in calibration.trials:
        choice, score = trial.choice, trial.score
        table.add_row(
            Text(names[choice.main]),
            *(f"{weight:.3g}" for weight in choice.weights),
            f"{choice.trust:g}",
            f"{score.value:.3f}",
            f"{score.low:.3f} to {score.high:.3f}",
            f"{trial.accuracy.value:.1%}",
            style="bold green" if trial is calibration.chosen else "",
        )
    return table


def describe_choice(calibration: Calibration, names: tuple[str, ...]) -> Iterator[str]:
    """What is written, and how sure it is."""
    best, chosen, start = calibration.best, calibration.chosen, calibration.start
    if len(calibration.trials) == 1:
        yield f"Uniform weights, main model {names[chosen.choice.main]}, as asked for: nothing was chosen."
        return
    if best is start:
        yield "Nothing that was tried scores higher than uniform weights with the main model as it is."
    else:
        gain = best.gain_over(start)
        sure = "beyond doubt" if gain.low > 0 else "which may be luck, so that it is not taken"
        yield f"The best of all, {_say_choice(best, names)}, gains {_say_gain(gain)} on uniform weights: {sure}."
    yield f"Chosen: {_say_choice(chosen, names)}."
    if not chosen.choice.is_alone:
        alone = calibration.best_alone
        above = _say_gain(chosen.gain_over(alone))
        yield f"It is above the best main model alone, {names[alone.choice.main]}, by {above}."


def _say_choice(trial: Trial, names: tuple[str, ...]) -> str:
    weights = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(names, trial.choice.weights, strict=True))
    return f"main model {names[trial.choice.main]}, weights {weights}, trust {trial.choice.trust:g}"


def _say_gain(gain: Estimate) -> str:
    return f"{gain.value:+.3f} (95% interval {gain.low:+.3f} to {gain.high:+.3f})"
