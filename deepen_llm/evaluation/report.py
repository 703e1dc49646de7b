"""The outcome of a run as JSON values and as a page of Markdown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from deepen_llm import __version__
from deepen_llm.evaluation.comparison import best_member, gain_on_best, mean_share
from deepen_llm.evaluation.estimates import Estimate
from deepen_llm.evaluation.systems import SystemResult, TaskResult
from deepen_llm.evaluation.tasks import BITS_PER_BYTE, Task
from deepen_llm.machine import describe_machine

Settings = dict[str, Any]


def write_json(results: Sequence[SystemResult], tasks: Sequence[Task], settings: Settings) -> dict[str, Any]:
    """Everything, question by question, as JSON values; null stands for an infinite number."""
    return {
        "version": __version__,
        "machine": describe_machine(),
        "settings": settings,
        "tasks": {task.name: task.about for task in tasks},
        "score_by": {task.name: task.score_by for task in tasks if task.score_by},
        "results": [
            {
                "name": result.system.name,
                "is_member": result.system.is_member,
                "identity": result.identity,
                "outcomes": {name: _finite(_describe(outcome)) for name, outcome in result.tasks.items()},
            }
            for result in results
        ],
    }


def _finite(value: Any) -> Any:
    """JSON knows no infinity: None in its place, at any depth."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _describe(outcome: TaskResult) -> dict[str, Any]:
    cost = {**dataclasses.asdict(outcome.cost), "tokens_per_s": outcome.cost.tokens_per_s}
    values: dict[str, Any] = {"cost": {**cost, "fused_share": outcome.cost.fused_share}, "notes": list(outcome.notes)}
    if outcome.scores is None:
        return {**values, "refusal": outcome.refusal}
    return {**values, **dataclasses.asdict(outcome.scores.estimate), **dataclasses.asdict(outcome.scores)}


def write_markdown(
    results: Sequence[SystemResult], tasks: Sequence[Task], settings: Settings, picture: str | None
) -> str:
    """The same in tables: who reached what, how far from the best member, and at what cost.

    Args:
        results: What every system reached.
        tasks: What was to be done.
        settings: What was asked for, by name.
        picture: The file name of the plot beside the page; None leaves it out.
    """
    names = [task.name for task in tasks]
    sections = [
        "# Evaluation",
        "\n".join(f"- {name}: {_escape(str(value))}" for name, value in settings.items() if value not in (None, ())),
        "## Results",
        "Right answers in %, or bits per byte (lower is better), with the 95% interval; after a task its questions, "
        "and what of their options was scored.",
        _result_table(results, tasks),
        *([f"![The results with their intervals]({picture})"] if picture else []),
        *_gain_section(results, names),
        "## Cost",
        "Tokens of the main model, generated or scored, in a second, all requests side by side; answers from an "
        "earlier run count with the time that they took then. Of a question with options only these are scored, their "
        "letters or texts, each after the whole prompt, so that most of the time is the prompt's. Of ensembles, in "
        "brackets the share of fused steps.",
        _table(_header(results), [[name, *(_speed(result, name) for result in results)] for name in names]),
        "## Tasks",
        "\n".join(f"- **{task.name}**: {_escape(task.about)}" for task in tasks),
        *_note_section(results),
        "## Machine",
        ", ".join(f"{name} {value}" for name, value in describe_machine().items() if value != ""),
    ]
    return "\n\n".join(sections) + "\n"


def _gain_section(results: Sequence[SystemResult], names: Sequence[str]) -> Iterator[str]:
    together = [result for result in results if not result.system.is_member]
    if not together or not any(best_member(results, name) for name in names):
        return
    yield "## Against the best single member"
    yield (
        "The difference on the same questions, with the 95% interval of a paired bootstrap: points of right answers "
        "(positive is better), or bits per byte (negative is better). The best member is chosen task by task on these "
        "very questions, which favours it."
    )
    header = ["", "best member", *_header(together)[1:]]
    yield _table(
        header,
        [
            [name, _name_of_best(results, name), *(_gain(result, results, name) for result in together)]
            for name in names
        ],
    )


def _name_of_best(results: Sequence[SystemResult], task: str) -> str:
    best = best_member(results, task)
    return best.system.name.removesuffix(" alone") if best else "-"


def _gain(result: SystemResult, results: Sequence[SystemResult], task: str) -> str:
    gain, scores = gain_on_best(result, results, task), result.tasks[task].scores
    return "-" if gain is None or scores is None else format_estimate(gain, is_share=scores.is_share, sign="+")


def _note_section(results: Sequence[SystemResult]) -> Iterator[str]:
    lines = []
    for result in results:
        for task, outcome in result.tasks.items():
            where = f"- **{result.system.name}**, {task}: "
            lines += [where + _escape(note) for note in outcome.notes]
            if outcome.refusal:
                lines.append(f"{where}left out. {_escape(outcome.refusal)}")
    for task in results[0].tasks if results else ():
        counts = [(result.system.name, result.tasks[task].cost.num_shortened) for result in results]
        if shortened := ", ".join(f"{name} {count}" for name, count in counts if count):
            lines.append(
                f"- Requests that lost the beginning of their prompt, too long as a whole, {task}: {shortened}."
            )
    if lines:
        yield "## To know"
        yield "\n".join(lines)


def _header(results: Sequence[SystemResult]) -> list[str]:
    return ["", *(result.system.name for result in results)]


def _result_table(results: Sequence[SystemResult], tasks: Sequence[Task]) -> str:
    """A row for each task, and for the mean of those that count right answers."""
    rows = [
        [_describe_size(results, task), *(describe_result(result.tasks[task.name]) for result in results)]
        for task in tasks
    ]
    means = [mean_share(result) for result in results]
    if any(means) and sum(task.name != BITS_PER_BYTE for task in tasks) > 1:
        shown = ("-" if mean is None else format_estimate(mean, is_share=True) for mean in means)
        rows.append(["**mean over tasks**", *shown])
    return _table(_header(results), rows)


def _describe_size(results: Sequence[SystemResult], task: Task) -> str:
    """A task with the number of its questions, and what of their options was scored."""
    return ", ".join(
        [task.name, str(_num_questions(results, task.name)), *([f"by {task.score_by}"] if task.score_by else [])]
    )


def _num_questions(results: Sequence[SystemResult], task: str) -> int:
    return max((len(scores.values) for result in results if (scores := result.tasks[task].scores)), default=0)


def describe_result(outcome: TaskResult) -> str:
    """A value with its interval, or that there is none."""
    return (
        "left out"
        if outcome.scores is None
        else format_estimate(outcome.scores.estimate, is_share=outcome.scores.is_share)
    )


def format_estimate(estimate: Estimate, *, is_share: bool, sign: str = "") -> str:
    """A value and its interval: percent or points with one digit, bits per byte with three."""
    if not math.isfinite(estimate.value):
        return "infinite"
    factor, digits = (100, 1) if is_share else (1, 3)
    value, low, high = (f"{factor * part:{sign}.{digits}f}" for part in (estimate.value, estimate.low, estimate.high))
    return f"{value} (no interval)" if math.isnan(estimate.low) else f"{value} ({low} to {high})"


def _speed(result: SystemResult, task: str) -> str:
    cost = result.tasks[task].cost
    speed = "-" if cost.tokens_per_s is None else f"{cost.tokens_per_s:.1f}"
    is_alone = result.system.is_member or cost.fused_share is None
    return speed if is_alone else f"{speed} ({100 * (cost.fused_share or 0):.0f}%)"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_escape, line)) + " |" for line in lines)


def _escape(text: str) -> str:
    """Text of users and models, safe in a cell or a line of Markdown."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
