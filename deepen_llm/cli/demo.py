"""`deepen demo`: the bundled models on held-out questions, alone and together, then in LangChain and LlamaIndex."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from deepen_llm.cli.console import counting, go_offline, loading, out, say
from deepen_llm.cli.narrow_table import Cell, NarrowTable
from deepen_llm.cli.tables import describe_gain, estimate_cell

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.evaluation import SystemResult, TaskResult

Limit = Annotated[
    int | None, typer.Option("--limit", "-l", min=1, help="Questions per task; all of them if not given.")
]


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
        from deepen_llm import Ensemble

        ensemble = Ensemble.starter()
    with ensemble:
        _introduce(ensemble)
        results = compare(ensemble, limit)
        out.print(accuracy_table(results))
        say(describe_gain(results[-1], results), style="bold")
        show_langchain(ensemble)
        show_llama_index(ensemble)
    say(f"\nDone in {time.monotonic() - started:.0f} s.", style="dim")


def _introduce(ensemble: Ensemble) -> None:
    sizes = [f"{member.name} ({len(member.vocabulary.tokens):,} tokens)" for member in ensemble.members]
    say(f"One ensemble of {len(sizes)} models with tokenizers of their own: {', '.join(sizes)}.")
    say(f"It speaks the vocabulary of {ensemble.main_name}.\n")


def compare(ensemble: Ensemble, limit: int | None) -> list[SystemResult]:
    """Every member alone, then the ensemble, on the first `limit` questions of every starter task."""
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.evaluation import RequestCache, System, each_alone, find_tasks, run_system
    from deepen_llm.starter import TASKS

    tasks = find_tasks(TASKS, limit=limit)
    members = zip(ensemble.member_names, each_alone(ensemble.config), strict=True)
    systems = [System(name, alone, is_member=True) for name, alone in members]
    together = System("ensemble", ensemble.config, is_member=False)
    cache = RequestCache()
    total = (len(systems) + 1) * sum(task.num_requests for task in tasks)
    with counting(total, "questions") as report:
        results = [run_system(system, Ensemble.from_config, tasks, cache, report) for system in systems]
        return [*results, run_system(together, lambda _: nullcontext(ensemble), tasks, cache, report)]


def accuracy_table(results: Sequence[SystemResult]) -> NarrowTable:
    """Who gets how much right, in percent with the 95% interval: a row per system, the ensemble's stands out."""
    from deepen_llm.evaluation import mean_share

    headings = [f"{task}, {_num_questions(reached)} questions" for task, reached in results[-1].tasks.items()]
    columns = ["system", *headings, "mean"]
    rows: list[tuple[Cell, ...]] = []
    for result in results:
        estimates = [one.scores.estimate if one.scores else None for one in result.tasks.values()]
        cells = [estimate_cell(estimate, is_share=True) for estimate in (*estimates, mean_share(result))]
        rows.append((result.system.name, *cells))
    styles = ["" if result.system.is_member else "bold green" for result in results]
    title = "Right answers in %, with the 95% interval"
    return NarrowTable(title, columns, rows, loose=range(len(columns)), styles=styles)


def _num_questions(result: TaskResult) -> int:
    return len(result.scores.values) if result.scores else 0
