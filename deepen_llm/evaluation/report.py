"""The outcome of a run as JSON values and as a page of Markdown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from deepen_llm import __version__
from deepen_llm.bench.timing import describe_machine
from deepen_llm.evaluation.accuracy import Estimate, mean_over_tasks
from deepen_llm.evaluation.assignments import BITS_PER_BYTE, Assignment
from deepen_llm.evaluation.contest import Outcome, Result
from deepen_llm.evaluation.tally import Tally

Settings = dict[str, Any]


def write_json(results: Sequence[Result], assignments: Sequence[Assignment], settings: Settings) -> dict[str, Any]:
    """Everything, question by question, as JSON values; null stands for an infinite number."""
    return {
        "version": __version__,
        "machine": describe_machine(),
        "settings": settings,
        "tasks": {assignment.name: assignment.about for assignment in assignments},
        "results": [
            {
                "name": result.entrant.name,
                "is_member": result.entrant.is_member,
                "identity": result.identity,
                "outcomes": {name: _finite(_describe(outcome)) for name, outcome in result.outcomes.items()},
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


def _describe(outcome: Outcome) -> dict[str, Any]:
    cost = {**dataclasses.asdict(outcome.cost), "tokens_per_s": outcome.cost.tokens_per_s}
    values: dict[str, Any] = {"cost": {**cost, "fused_share": outcome.cost.fused_share}, "notes": list(outcome.notes)}
    if outcome.tally is None:
        return {**values, "refusal": outcome.refusal}
    return {**values, **dataclasses.asdict(outcome.tally.estimate), **dataclasses.asdict(outcome.tally)}


def write_markdown(
    results: Sequence[Result], assignments: Sequence[Assignment], settings: Settings, picture: str | None
) -> str:
    """The same in tables: who reached what, how far from the best member, and at what cost.

    Args:
        results: What every entrant reached.
        assignments: What was to be done.
        settings: What was asked for, by name.
        picture: The file name of the plot beside the page; None leaves it out.
    """
    names = [assignment.name for assignment in assignments]
    sections = [
        "# Evaluation",
        "\n".join(f"- {name}: {_escape(str(value))}" for name, value in settings.items() if value not in (None, ())),
        "## Results",
        "Right answers in %, or bits per byte (lower is better), with the 95% interval; behind a task its questions.",
        _result_table(results, names),
        *([f"![The results with their intervals]({picture})"] if picture else []),
        *_gain_section(results, names),
        "## Cost",
        "Tokens of the main model, generated or scored, in a second, all requests side by side; answers from an "
        "earlier run count with the time that they took then. Of a question with options only the letters are scored, "
        "so that nearly all of the time is its prompt's. Of ensembles, in brackets the share of fused steps.",
        _table(_header(results), [[name, *(_speed(result, name) for result in results)] for name in names]),
        "## Tasks",
        "\n".join(f"- **{assignment.name}**: {_escape(assignment.about)}" for assignment in assignments),
        *_note_section(results),
        "## Machine",
        ", ".join(f"{name} {value}" for name, value in describe_machine().items() if value != ""),
    ]
    return "\n\n".join(sections) + "\n"


def best_member(results: Sequence[Result], task: str) -> Result | None:
    """The member that alone is best at a task; None where no member did it alone."""
    able = [result for result in results if result.entrant.is_member and result.outcomes[task].tally is not None]
    return max(able, key=lambda result: _goodness(result.outcomes[task].tally), default=None)


def compare_with_best(result: Result, results: Sequence[Result], task: str) -> Estimate | None:
    """How far an entrant's value is above the best single member's, paired; None where there is nothing to pair."""
    best, tally = best_member(results, task), result.outcomes[task].tally
    against = best.outcomes[task].tally if best else None
    return None if tally is None or against is None else tally.minus(against)


def _goodness(tally: Tally | None) -> float:
    if tally is None:
        return float("-inf")
    value = sum(tally.values) / sum(tally.sizes)
    return value if tally.is_share else -value


def _gain_section(results: Sequence[Result], names: Sequence[str]) -> Iterator[str]:
    together = [result for result in results if not result.entrant.is_member]
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


def _name_of_best(results: Sequence[Result], task: str) -> str:
    best = best_member(results, task)
    return best.entrant.name.removesuffix(" alone") if best else "-"


def _gain(result: Result, results: Sequence[Result], task: str) -> str:
    gain, tally = compare_with_best(result, results, task), result.outcomes[task].tally
    return "-" if gain is None or tally is None else format_estimate(gain, is_share=tally.is_share, sign="+")


def _note_section(results: Sequence[Result]) -> Iterator[str]:
    lines = []
    for result in results:
        for task, outcome in result.outcomes.items():
            where = f"- **{result.entrant.name}**, {task}: "
            lines += [where + _escape(note) for note in outcome.notes]
            if outcome.refusal:
                lines.append(f"{where}left out. {_escape(outcome.refusal)}")
    for task in results[0].outcomes if results else ():
        counts = [(result.entrant.name, result.outcomes[task].cost.num_shortened) for result in results]
        if shortened := ", ".join(f"{name} {count}" for name, count in counts if count):
            lines.append(
                f"- Requests that lost the beginning of their prompt, too long as a whole, {task}: {shortened}."
            )
    if lines:
        yield "## To know"
        yield "\n".join(lines)


def _header(results: Sequence[Result]) -> list[str]:
    return ["", *(result.entrant.name for result in results)]


def _result_table(results: Sequence[Result], names: Sequence[str]) -> str:
    """A row for each task, and for the mean of those that count right answers."""
    rows = [
        [f"{name}, {_num_questions(results, name)}", *(describe_outcome(result.outcomes[name]) for result in results)]
        for name in names
    ]
    means = [mean_share(result) for result in results]
    if any(means):
        shown = ("-" if mean is None else format_estimate(mean, is_share=True) for mean in means)
        rows.append(["**mean over tasks**", *shown])
    return _table(_header(results), rows)


def _num_questions(results: Sequence[Result], task: str) -> int:
    return max((len(tally.values) for result in results if (tally := result.outcomes[task].tally)), default=0)


def mean_share(result: Result) -> Estimate | None:
    """The mean over the tasks that count right answers; None for less than two, or where one was left out."""
    outcomes = [outcome for name, outcome in result.outcomes.items() if name != BITS_PER_BYTE]
    tallies = [outcome.tally for outcome in outcomes if outcome.tally is not None]
    if len(tallies) < 2 or len(tallies) < len(outcomes):
        return None
    return mean_over_tasks([tally.values for tally in tallies])


def describe_outcome(outcome: Outcome) -> str:
    """A value with its interval, or that there is none."""
    return (
        "left out"
        if outcome.tally is None
        else format_estimate(outcome.tally.estimate, is_share=outcome.tally.is_share)
    )


def format_estimate(estimate: Estimate, *, is_share: bool, sign: str = "") -> str:
    """A value and its interval: percent or points with one digit, bits per byte with three."""
    if not math.isfinite(estimate.value):
        return "infinite"
    factor, digits = (100, 1) if is_share else (1, 3)
    value, low, high = (f"{factor * part:{sign}.{digits}f}" for part in (estimate.value, estimate.low, estimate.high))
    return f"{value} (no interval)" if math.isnan(estimate.low) else f"{value} ({low} to {high})"


def _speed(result: Result, task: str) -> str:
    cost = result.outcomes[task].cost
    speed = "-" if cost.tokens_per_s is None else f"{cost.tokens_per_s:.1f}"
    is_alone = result.entrant.is_member or cost.fused_share is None
    return speed if is_alone else f"{speed} ({100 * (cost.fused_share or 0):.0f}%)"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_escape, line)) + " |" for line in lines)


def _escape(text: str) -> str:
    """Text of users and models, safe in a cell or a line of Markdown."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
