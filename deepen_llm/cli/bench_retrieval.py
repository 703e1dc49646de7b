"""`deepen bench retrieval`: questions about documents, through LangChain and LlamaIndex, members alone and together."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from deepen_llm.cli.bench import check_writable
from deepen_llm.cli.console import err, out, say, silence_transformers
from deepen_llm.cli.demo import describe_gain
from deepen_llm.cli.opening import open_ensemble
from deepen_llm.cli.parameters import ENSEMBLE, take_options
from deepen_llm.source import EnsembleSource

if TYPE_CHECKING:
    from deepen_llm.bench.retrieval import RetrievalBenchmark, RetrievalResult
    from deepen_llm.config import EnsembleConfig
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.evaluation.comparison import Comparison

RETRIEVED_HELP = "So many documents are retrieved and read for each question."
QUESTIONS_HELP = "If not given: every fact of every document is asked for, three a document."
CHAT_HELP = "Ask in the members' chat templates: for chat-tuned models. Else plainly, and an answer is one line."


@take_options(source=ENSEMBLE)
def retrieval(
    *,
    source: EnsembleSource,
    framework: Annotated[
        Literal["both", "langchain", "llama-index"], typer.Option("--framework", help="Who retrieves and prompts.")
    ] = "both",
    num_documents: Annotated[int, typer.Option("--documents", min=1, help="Documents to search.")] = 100,
    num_questions: Annotated[
        int | None, typer.Option("--questions", "-l", min=1, help=QUESTIONS_HELP, show_default=False)
    ] = None,
    num_retrieved: Annotated[int, typer.Option("--retrieve", "-k", min=1, help=RETRIEVED_HELP)] = 1,
    chat: Annotated[bool, typer.Option("--chat", help=CHAT_HELP)] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write figures and answers to this file.")] = None,
) -> None:
    """Ask about documents with invented facts: retrieval by BM25, then each member alone and all together.

    The documents are made up anew, always the same ones. A person has two of them, so that the right one must be found
    by what is asked. An answer is right if its first line names the value asked for, and no other of the same kind.
    It is shown apart how often the right document was found, and how often the answer was right then.
    Times are a user's: from before retrieval to the first text and to the end, one question at a time.

    Needs the frameworks: `pip install langchain-deepen bm25s` and
    `pip install llama-index-llms-deepen llama-index-retrievers-bm25`. The bundled models take about a minute.

    Examples:
    - `deepen bench retrieval`
    - `deepen bench retrieval --framework langchain --retrieve 2 --json retrieval.json`
    - `deepen bench retrieval -m org/main-model -m org/other-model --chat --questions 60`
    """
    check_writable(json_file, "--json")
    benchmark = _prepare(framework, num_documents, num_questions, num_retrieved, in_chat=chat)
    with open_ensemble(source) as ensemble:
        config, names = ensemble.config, ensemble.member_names
    results: list[RetrievalResult] = []
    with _reporting(benchmark, names) as report:
        results.extend(benchmark.run(config, names, _open, report))
    # Written first: a table that cannot be shown loses no figures.
    if json_file is not None:
        values = describe_results(benchmark, config, results)
        json_file.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    out.print(results_table(results, benchmark))
    if len(names) > 1:
        say(describe_gain(compare(results)))


def _prepare(
    framework: Literal["both", "langchain", "llama-index"],
    num_documents: int,
    num_questions: int | None,
    num_retrieved: int,
    *,
    in_chat: bool,
) -> RetrievalBenchmark:
    """The questions; what cannot be asked is refused before any model is loaded."""
    from deepen_llm.bench.retrieval import RetrievalBenchmark
    from deepen_llm.bench.retrieval_documents import FACTS_EACH, make_documents
    from deepen_llm.bench.retrieval_pipelines import FRAMEWORKS, check_framework

    chosen = FRAMEWORKS if framework == "both" else (framework,)
    for name in chosen:
        check_framework(name)
    if num_retrieved > num_documents:
        raise typer.BadParameter(f"--retrieve must be at most --documents, {num_documents}; got {num_retrieved}")
    documents, questions = make_documents(num_documents, num_questions or FACTS_EACH * num_documents)
    return RetrievalBenchmark(documents, questions, chosen, num_retrieved, in_chat)


def _open(config: EnsembleConfig) -> Ensemble:
    from deepen_llm.ensemble import Ensemble

    silence_transformers()
    return Ensemble.from_config(config)


@contextmanager
def _reporting(benchmark: RetrievalBenchmark, names: Sequence[str]) -> Iterator[Callable[[str], None]]:
    """A bar of questions over the whole run, with who is answering."""
    num_contestants = len(names) + (len(names) > 1)
    total = num_contestants * len(benchmark.frameworks) * len(benchmark.questions)
    columns = (TextColumn("{task.description:<28}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=err, transient=True) as progress:
        bar = progress.add_task("loading", total=total)
        yield lambda label: progress.update(bar, description=label, advance=1)


def results_table(results: Sequence[RetrievalResult], benchmark: RetrievalBenchmark) -> Table:
    """Who answered how many rightly through which framework, and how soon."""
    title = (
        f"{len(benchmark.questions)} questions about {len(benchmark.documents)} documents, "
        f"{benchmark.num_retrieved} read for each"
    )
    table = Table("", "", title=title, title_justify="left", title_style="bold")
    headings = ("right answers", "document found", "right where found", "first text", "whole answer")
    for heading in headings:
        table.add_column(heading, justify="right")
    ordered = sorted(results, key=lambda result: benchmark.frameworks.index(result.framework))
    for result in ordered:
        right = result.accuracy
        table.add_row(
            Text(result.framework),
            Text(result.contestant),
            f"{right.value:.1%} ({100 * right.low:.0f} to {100 * right.high:.0f})",
            f"{result.hit_rate:.1%}",
            _show_share(result.accuracy_where_found),
            _show_milliseconds(result.first_s),
            _show_milliseconds(result.total_s),
        )
    return table


def compare(results: Sequence[RetrievalResult]) -> Comparison:
    """The ensemble beside its members; a framework stands where a task does."""
    from deepen_llm.bench.retrieval import ENSEMBLE as TOGETHER
    from deepen_llm.evaluation.comparison import Comparison, Contestant

    grades: dict[str, dict[str, tuple[bool, ...]]] = {}
    for result in results:
        grades.setdefault(result.contestant, {})[result.framework] = tuple(one.is_right for one in result.answers)
    contestants = {name: Contestant(name, given) for name, given in grades.items()}
    together = contestants.pop(TOGETHER)
    return Comparison(tuple(contestants.values()), together)


def describe_results(
    benchmark: RetrievalBenchmark, config: EnsembleConfig, results: Sequence[RetrievalResult]
) -> dict[str, Any]:
    """Figures and answers, as JSON values."""
    from deepen_llm.bench.timing import describe_machine

    return {
        "machine": describe_machine(),
        "members": [member.model for member in config.members],
        "num_documents": len(benchmark.documents),
        "num_questions": len(benchmark.questions),
        "num_retrieved": benchmark.num_retrieved,
        "in_chat": benchmark.in_chat,
        "results": [_describe(result) for result in results],
    }


def _describe(result: RetrievalResult) -> dict[str, Any]:
    figures = {
        "accuracy": dataclasses.asdict(result.accuracy),
        "hit_rate": result.hit_rate,
        "accuracy_where_found": result.accuracy_where_found,
        "median_first_s": result.first_s,
        "median_total_s": result.total_s,
    }
    return {**dataclasses.asdict(result), **figures}


def _show_share(share: float | None) -> str:
    return "none found" if share is None else f"{share:.1%}"


def _show_milliseconds(seconds: float | None) -> str:
    return "no text" if seconds is None else f"{1000 * seconds:.1f} ms"
