"""`deepen demo`: the bundled models on held-out questions, alone and together, then in LangChain and LlamaIndex."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from deepen_llm.cli.console import err, go_offline, loading, out, say

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.evaluation import Comparison, Contestant, Estimate
    from deepen_llm.evaluation.questions import Task
    from deepen_llm.starter.tasks import Question

Limit = Annotated[int | None, typer.Option("--limit", "-l", min=1, help="Questions a task; all of them if not given.")]


def demo(*, limit: Limit = None) -> None:
    """Run the bundled models: three small models with three tokenizers, alone and as one ensemble.

    A table shows who gets how many held-out questions right, task by task. Then one question goes through a
    LangChain chain and one through a LlamaIndex query engine. No network; about two minutes on two CPU cores.

    Examples:
    - `deepen demo`
    - `deepen demo --limit 20`
    """
    from deepen_llm.cli.chains import show_langchain, show_llama_index

    go_offline()
    started = time.monotonic()
    with loading("the bundled models"):
        from deepen_llm.ensemble import Ensemble

        ensemble = Ensemble.starter()
    with ensemble:
        _introduce(ensemble)
        comparison = run_comparison(ensemble, limit)
        out.print(accuracy_table(comparison))
        say(describe_gain(comparison), style="bold")
        show_langchain(ensemble)
        show_llama_index(ensemble)
    say(f"\nDone in {time.monotonic() - started:.0f} s.", style="dim")


def _introduce(ensemble: Ensemble) -> None:
    sizes = [f"{member.name} ({len(member.vocabulary.tokens):,} tokens)" for member in ensemble.members]
    say(f"One ensemble of {len(sizes)} models with tokenizers of their own: {', '.join(sizes)}.")
    say(f"It speaks the vocabulary of {ensemble.main_name}.\n")


def run_comparison(ensemble: Ensemble, limit: int | None) -> Comparison:
    """Every member alone, then the ensemble, on the first `limit` questions of every starter task."""
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.evaluation import Comparison
    from deepen_llm.evaluation.comparison import each_alone

    tasks = load_tasks(limit)
    contestants = []
    with _progress() as progress:
        total = (len(ensemble.members) + 1) * sum(len(task.questions) for task in tasks)
        bar = progress.add_task("", total=total)
        for name, config in zip(ensemble.member_names, each_alone(ensemble.config), strict=True):
            with Ensemble.from_config(config) as alone:
                contestants.append(_enter(name, alone, tasks, _reporter(progress, bar)))
        together = _enter("ensemble", ensemble, tasks, _reporter(progress, bar))
    return Comparison(tuple(contestants), together)


def load_tasks(limit: int | None) -> list[Task[Question]]:
    """The starter tasks, ready to be asked."""
    from deepen_llm.evaluation.questions import Task
    from deepen_llm.starter import TASKS
    from deepen_llm.starter.tasks import is_correct, load_task

    return [Task(name, load_task(name, limit), is_correct) for name in TASKS]


def _enter(
    name: str, ensemble: Ensemble, tasks: Sequence[Task[Question]], report: Callable[[str, int], None]
) -> Contestant:
    """One contestant's grades in every task."""
    from deepen_llm.evaluation import Contestant, answer_task

    grades = {}
    for task in tasks:
        label = f"{name}: {task.name}"
        report(label, 0)
        grades[task.name] = answer_task(ensemble, task, on_answered=lambda number, label=label: report(label, number))  # type: ignore[misc]
    return Contestant(name, grades)


def _progress() -> Progress:
    columns = (TextColumn("{task.description:<22}", markup=False), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TextColumn("questions"), TimeElapsedColumn(), console=err, transient=True)


def accuracy_table(comparison: Comparison) -> Table:
    """Who gets how much right, in percent with the 95% interval."""
    table = Table(title="Right answers in %, with the 95% interval", title_justify="left", title_style="bold")
    table.add_column("")
    for task in comparison.tasks:
        table.add_column(Text(f"{task}\n{len(comparison.ensemble.grades[task])} questions"), justify="right")
    table.add_column("mean", justify="right")
    for contestant in (*comparison.members, comparison.ensemble):
        is_ensemble = contestant is comparison.ensemble
        estimates = [*(contestant.accuracy(task) for task in comparison.tasks), contestant.mean]
        style = "bold green" if is_ensemble else ""
        table.add_row(Text(contestant.name), *map(format_share, estimates), style=style)
        table.add_section()
    return table


def describe_gain(comparison: Comparison) -> str:
    """The gain over the best single member in one line."""
    gain = comparison.gain
    points = 100 * gain.value
    return (
        f"The ensemble is {abs(points):.1f} points {'above' if points >= 0 else 'below'} the best single member, "
        f"{comparison.best_member.name} (95% interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f})."
    )


def format_share(estimate: Estimate) -> Text:
    """A share in percent, its interval on the line below."""
    return Text(f"{100 * estimate.value:.1f}\n{100 * estimate.low:.0f}-{100 * estimate.high:.0f}")


def _reporter(progress: Progress, bar: int) -> Callable[[str, int], None]:
    def report(label: str, number: int) -> None:
        progress.update(bar, description=label, advance=number)  # type: ignore[arg-type]

    return report
