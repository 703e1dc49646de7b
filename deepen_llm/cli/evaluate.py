"""`deepen eval`: members alone and together, by one method of fusion or several, on tasks and on text."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deepen_llm.cli.console import counting, open_ensemble, out, say
from deepen_llm.cli.narrow_table import Cell, NarrowTable
from deepen_llm.cli.parameters import ENSEMBLE, take_options
from deepen_llm.cli.tables import estimate_cell
from deepen_llm.config import EnsembleConfig, WeightingConfig
from deepen_llm.errors import ConfigError
from deepen_llm.frontends.source import EnsembleSource
from deepen_llm.text_file import read_text, write_text

if TYPE_CHECKING:
    from deepen_llm.config import FusionConfig
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.evaluation import RequestCache, System, SystemResult, Task, TaskResult

CONFIGURED = "configured"
TASK_HELP = (
    "mmlu, arc_challenge, gsm8k, piqa, triviaqa, nq (all six: paper); capitals, elements, arithmetic, reading "
    "(all four: starter); or the path of a task file."
)
METHOD_HELP = (
    "A way to fuse, such as default or published; once for each to compare. If not given: what --config says "
    "(configured), else default."
)
DATA_HELP = (
    "The folder that holds the questions as JSON lines (mmlu/test.jsonl, ...). If not given: the Hugging Face hub."
)
LIMIT_HELP = "A sample of so many questions per task, the same each time; of a text, its first passages."
TEXT_HELP = "Measure bits per byte on this text file as well."
MEMBERS_HELP = "Every member alone beside the ensemble."
SCORE_BY_HELP = (
    "What of a question's options is scored, the same for all that are compared. letter: the options are listed, and "
    "the most probable letter counts. text: they are not listed, and the option whose text has the highest "
    "log-probability per byte counts. auto: by text where no member's letters are above chance on a sample. If not "
    "given: what the task file says, else auto."
)
CHAT_HELP = "Ask in the members' chat templates."
OUTPUT_HELP = "The folder for report.md, report.json, report.svg and the finished requests; run again to resume."
FRESH_HELP = "Ask everything anew, also what the folder holds already."
OVERWRITE_HELP = "Replace the report of another run that the folder holds."


Tasks = Annotated[list[str] | None, typer.Argument(metavar="[TASK]...", help=TASK_HELP, show_default=False)]
Methods = Annotated[list[str] | None, typer.Option("--method", help=METHOD_HELP, show_default=False)]
EachMember = Annotated[bool, typer.Option("--each-member/--no-each-member", help=MEMBERS_HELP)]
Limit = Annotated[int | None, typer.Option("--limit", "-l", min=1, help=LIMIT_HELP)]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help=DATA_HELP)]
TextFile = Annotated[Path | None, typer.Option("--text", help=TEXT_HELP)]
ScoreBy = Annotated[
    Literal["letter", "text", "auto"] | None, typer.Option("--score-by", help=SCORE_BY_HELP, show_default=False)
]
Chat = Annotated[bool, typer.Option("--chat", help=CHAT_HELP)]
Output = Annotated[Path, typer.Option("--output", "-o", help=OUTPUT_HELP)]
Fresh = Annotated[bool, typer.Option("--fresh", help=FRESH_HELP)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help=OVERWRITE_HELP)]


@take_options(source=ENSEMBLE)
def evaluate(
    tasks: Tasks = None,
    *,
    source: EnsembleSource,
    method: Methods = None,
    each_member: EachMember = True,
    limit: Limit = None,
    data_dir: DataDir = None,
    text: TextFile = None,
    score_by: ScoreBy = None,
    chat: Chat = False,
    output: Output = Path("deepen-eval"),
    fresh: Fresh = False,
    overwrite: Overwrite = False,
) -> None:
    """Evaluate an ensemble beside its members: right answers and bits per byte, with 95% intervals.

    An interrupted run loses nothing: the same command goes on where it stopped, also with more tasks or methods. The
    report of another run is not replaced unasked. Without models, the bundled ones.

    Examples:
    - `deepen eval starter --limit 20`
    - `deepen eval mmlu gsm8k -m org/main-model -m org/other-model --limit 200`
    - `deepen eval paper --config ensemble.yaml --data-dir data --method configured --method published`
    - `deepen eval --text stories.txt -m org/main-model -m org/other-model --output stories`
    """
    if not tasks and text is None:
        raise typer.BadParameter(f"give at least one task, or --text with a file. Tasks: {TASK_HELP}")
    own_text = None if text is None else read_text(text, "--text")
    _quieten()
    _make_folder(output)
    from deepen_llm.evaluation import TextTask, find_tasks, list_systems
    from deepen_llm.evaluation.kept_report import check_nothing_lost
    from deepen_llm.evaluation.plot import check_matplotlib

    check_matplotlib()
    methods = _find_methods(method or [], source)
    asked = find_tasks(tasks or [], data_folder=data_dir, limit=limit, in_chat=chat, score_by=score_by)
    with open_ensemble(source) as ensemble:
        if text is not None and own_text is not None:
            asked.append(TextTask.cut(own_text, text.name, ensemble.members, limit))
        resolved = {name: fusion or ensemble.config.fusion for name, fusion in methods.items()}
        systems = list_systems(ensemble.config, ensemble.member_names, resolved, with_members=each_member)
        settings = _describe(ensemble) | {"limit": limit, "chat": chat, "score_by": score_by}
        if not overwrite:
            check_nothing_lost(output, settings, asked, systems)
        cache = _open_cache(output, fresh=fresh)
        asked = _settle(asked, ensemble, cache)
    results = _run(systems, asked, cache)
    _write(results, asked, settings, output)
    out.print(results_table(results, [task.name for task in asked]))
    for task in asked:
        if task.score_by:
            say(f"{task.name}: {task.about}", style="dim")
    say(f"The report is in {output / 'report.md'}.", style="dim")


def _quieten() -> None:
    """No bars and no advice from lm-eval: the report says what must be known. Call before anything is imported."""
    os.environ["TQDM_DISABLE"] = "1"
    for name in ("lm_eval", "deepen_llm.evaluation.harness"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output must name a folder that can be made; got {str(output)!r}: {error}") from error


def _find_methods(names: Sequence[str], source: EnsembleSource) -> dict[str, FusionConfig | None]:
    """Fusion settings by name; None for those of the --config file."""
    from deepen_llm.evaluation.systems import find_method

    is_configured = isinstance(source.model, EnsembleConfig)
    names = names or ([CONFIGURED] if is_configured else ["default"])
    if CONFIGURED in names and not is_configured:
        raise ConfigError(f"the method {CONFIGURED!r} is what a --config file says: give one, or another method")
    return {name: None if name == CONFIGURED else find_method(name) for name in names}


def _describe(ensemble: Ensemble) -> dict[str, Any]:
    """Who answers, for the report."""
    weights = ensemble.config.weights
    return {
        "models": ensemble.member_names,
        "weights": weights.kind if isinstance(weights, WeightingConfig) else weights,
        "main": ensemble.main_name,
    }


def _open_cache(output: Path, *, fresh: bool) -> RequestCache:
    from deepen_llm.evaluation import RequestCache

    finished = output / "requests.jsonl"
    if fresh:
        finished.unlink(missing_ok=True)
    return RequestCache(finished)


def _settle(tasks: Sequence[Task], ensemble: Ensemble, cache: RequestCache) -> list[Task]:
    """What of the options is scored, for all systems alike, where the tasks leave it open."""
    from deepen_llm.evaluation import count_trial_requests, lend_members, list_members, settle_tasks

    members = list_members(ensemble.config, ensemble.member_names)
    with counting(len(members) * count_trial_requests(tasks)) as report:
        return settle_tasks(tasks, members, lend_members(ensemble), cache, report)


def _run(systems: Sequence[System], tasks: Sequence[Task], cache: RequestCache) -> list[SystemResult]:
    """Every system in turn: only one is in memory at a time."""
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.evaluation import run_system

    with counting(len(systems) * sum(task.num_requests for task in tasks)) as report:
        return [run_system(system, Ensemble.from_config, tasks, cache, report) for system in systems]


def _write(results: Sequence[SystemResult], tasks: Sequence[Task], settings: dict[str, Any], output: Path) -> None:
    """The report, in three files."""
    from deepen_llm.evaluation.plot import plot_results
    from deepen_llm.evaluation.report import write_json, write_markdown

    plot_results(results, [task.name for task in tasks], output / "report.svg")
    values = write_json(results, tasks, settings)
    write_text(output / "report.json", json.dumps(values, indent=1, ensure_ascii=False) + "\n", "the report")
    write_text(output / "report.md", write_markdown(results, tasks, settings, "report.svg"), "the report")


def results_table(results: Sequence[SystemResult], tasks: Sequence[str]) -> NarrowTable:
    """Who reached what, with intervals. Whichever are fewer, tasks or systems, are the columns."""
    title = "Right answers in %, or bits per byte, with the 95% interval"
    systems = [result.system.name for result in results]
    cells = [[_cell(result.tasks[task]) for task in tasks] for result in results]
    rows: list[tuple[Cell, ...]]
    if len(tasks) < len(systems):
        columns = ["system", *tasks]
        rows = [(name, *row) for name, row in zip(systems, cells, strict=True)]
    else:
        columns = ["task", *systems]
        rows = [(name, *column) for name, column in zip(tasks, zip(*cells, strict=True), strict=True)]
    return NarrowTable(title, columns, rows, loose=range(len(columns)))


def _cell(result: TaskResult) -> tuple[str, ...]:
    scores = result.scores
    return estimate_cell(scores.estimate if scores else None, is_share=scores is None or scores.is_share)
