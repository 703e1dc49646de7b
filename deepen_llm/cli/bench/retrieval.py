"""`deepen bench retrieval`: questions about documents, through LangChain and LlamaIndex, members alone and together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from deepen_llm.cli.bench.figures import check_figures_file, write_figures
from deepen_llm.cli.console import counting, open_ensemble, out, say, silence_transformers
from deepen_llm.cli.parameters import ENSEMBLE, take_options
from deepen_llm.cli.tables import describe_gain
from deepen_llm.frontends.source import EnsembleSource

if TYPE_CHECKING:
    from deepen_llm.bench.retrieval import RetrievalBenchmark, RetrievalResult
    from deepen_llm.config import EnsembleConfig
    from deepen_llm.ensemble import Ensemble

RETRIEVED_HELP = "So many documents are retrieved and read for each question."
QUESTIONS_HELP = "If not given: every fact of every document is asked for, three per document."
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
    check_figures_file(json_file)
    benchmark = _prepare(framework, num_documents, num_questions, num_retrieved, in_chat=chat)
    with open_ensemble(source) as ensemble:
        config, names = ensemble.config, ensemble.member_names
    num_systems = len(names) + (len(names) > 1)
    with counting(num_systems * len(benchmark.frameworks) * len(benchmark.questions)) as report:
        results = list(benchmark.run(config, names, _open, lambda label: report(label, 1)))
    # Written first: a table that cannot be shown loses no figures.
    write_figures(json_file, describe_results(benchmark, config, results), indent=1)
    out.print(results_table(results, benchmark))
    if len(names) > 1:
        from deepen_llm.bench.retrieval import collect_results

        reached = collect_results(results)
        say(describe_gain(reached[-1], reached))


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
        right = result.scores.estimate
        table.add_row(
            Text(result.framework),
            Text(result.system.name),
            f"{right.value:.1%} ({100 * right.low:.0f} to {100 * right.high:.0f})",
            f"{result.hit_rate:.1%}",
            _show_share(result.accuracy_where_found),
            _show_milliseconds(result.first_s),
            _show_milliseconds(result.total_s),
        )
    return table


def describe_results(
    benchmark: RetrievalBenchmark, config: EnsembleConfig, results: Sequence[RetrievalResult]
) -> dict[str, Any]:
    """Figures and answers, as JSON values."""
    return {
        "members": [member.model for member in config.members],
        "num_documents": len(benchmark.documents),
        "num_questions": len(benchmark.questions),
        "num_retrieved": benchmark.num_retrieved,
        "in_chat": benchmark.in_chat,
        "results": [_describe(result) for result in results],
    }


def _describe(result: RetrievalResult) -> dict[str, Any]:
    return {
        "framework": result.framework,
        "contestant": result.system.name,
        "answers": [dataclasses.asdict(answer) for answer in result.answers],
        "accuracy": dataclasses.asdict(result.scores.estimate),
        "hit_rate": result.hit_rate,
        "accuracy_where_found": result.accuracy_where_found,
        "median_first_s": result.first_s,
        "median_total_s": result.total_s,
    }


def _show_share(share: float | None) -> str:
    return "none found" if share is None else f"{share:.1%}"


def _show_milliseconds(seconds: float | None) -> str:
    return "no text" if seconds is None else f"{1000 * seconds:.1f} ms"
