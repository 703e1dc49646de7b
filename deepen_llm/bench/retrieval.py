"""Questions about documents that are found first: who answers how many rightly, and how soon.

Each question is asked by itself. Its time begins before retrieval: what a user waits for, and not what the models take.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from deepen_llm.bench.retrieval_documents import Document, RetrievalQuestion
from deepen_llm.bench.retrieval_pipelines import Framework, Pipeline, build_pipeline
from deepen_llm.evaluation import Cost, Scores, System, SystemResult, TaskResult, list_members

if TYPE_CHECKING:
    from deepen_llm.config import EnsembleConfig
    from deepen_llm.ensemble import Ensemble

ENSEMBLE = "the ensemble"
NUM_WARM_UP = 2


@dataclass(frozen=True, slots=True)
class RetrievalAnswer:
    """What became of one question."""

    question: str
    expected: str
    text: str
    is_right: bool
    is_found: bool
    """Whether the document that answers it was among those retrieved."""
    first_s: float | None
    """Seconds until the first text; None where the answer is empty."""
    total_s: float


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """One system through one framework."""

    framework: Framework
    system: System
    answers: tuple[RetrievalAnswer, ...]

    @property
    def scores(self) -> Scores:
        """Which answers are right."""
        return Scores.of_grades(answer.is_right for answer in self.answers)

    @property
    def hit_rate(self) -> float:
        """The share of questions for which the right document was among those retrieved."""
        return sum(answer.is_found for answer in self.answers) / len(self.answers)

    @property
    def accuracy_where_found(self) -> float | None:
        """The share of right answers among questions whose document was found; None where none was."""
        found = [answer.is_right for answer in self.answers if answer.is_found]
        return sum(found) / len(found) if found else None

    @property
    def first_s(self) -> float | None:
        """The median of the seconds until the first text; None where no answer has any."""
        given = [answer.first_s for answer in self.answers if answer.first_s is not None]
        return median(given) if given else None

    @property
    def total_s(self) -> float:
        """The median of the seconds that an answer took."""
        return median(answer.total_s for answer in self.answers)


@dataclass(frozen=True)
class RetrievalBenchmark:
    """The documents, the questions, and how they are asked."""

    documents: Sequence[Document]
    questions: Sequence[RetrievalQuestion]
    frameworks: Sequence[Framework]
    num_retrieved: int = 1
    in_chat: bool = False

    def run(
        self,
        config: EnsembleConfig,
        member_names: Sequence[str],
        open_ensemble: Callable[[EnsembleConfig], AbstractContextManager[Ensemble]],
        report: Callable[[str], None],
    ) -> Iterator[RetrievalResult]:
        """Each member alone and the ensemble through every framework; only one of them is in memory at a time.

        Args:
            config: The ensemble.
            member_names: Its members' names.
            open_ensemble: Loads models; closed again when all is asked.
            report: Told who answered through what, after each question.

        Raises:
            DeepenError: A model that cannot be loaded or fails, or a framework that is not installed.
        """
        for system in list_systems(config, member_names):
            with open_ensemble(system.config) as ensemble:
                for framework in self.frameworks:
                    pipeline = build_pipeline(
                        framework,
                        ensemble,
                        self.documents,
                        num_retrieved=self.num_retrieved,
                        in_chat=self.in_chat,
                    )
                    for question in self.questions[:NUM_WARM_UP]:
                        answer_question(pipeline, question)
                    answers = []
                    for question in self.questions:
                        answers.append(answer_question(pipeline, question))
                        report(f"{system.name}, {framework}")
                    yield RetrievalResult(framework, system, tuple(answers))


def list_systems(config: EnsembleConfig, member_names: Sequence[str]) -> list[System]:
    """Each member alone, then all together under the name `ENSEMBLE`; a single member stands for itself."""
    members = list_members(config, member_names)
    return members if len(members) == 1 else [*members, System(ENSEMBLE, config, is_member=False)]


def collect_results(results: Sequence[RetrievalResult]) -> list[SystemResult]:
    """What every system reached; a framework stands where a task does."""
    found: dict[str, SystemResult] = {}
    for result in results:
        reached = found.setdefault(result.system.name, SystemResult(result.system))
        reached.tasks[result.framework] = TaskResult(result.scores, Cost.of([]))
    return list(found.values())


def answer_question(pipeline: Pipeline, question: RetrievalQuestion) -> RetrievalAnswer:
    """Ask one question, and time it from before retrieval to the end of the answer."""
    began = time.perf_counter()
    first_s = None
    reply = pipeline(question.text)
    pieces = []
    for piece in reply.pieces:
        if piece and first_s is None:
            first_s = time.perf_counter() - began
        pieces.append(piece)
    total_s = time.perf_counter() - began
    text = "".join(pieces)
    return RetrievalAnswer(
        question=question.text,
        expected=question.answer,
        text=text,
        is_right=question.is_answered_by(text),
        is_found=question.source in reply.sources,
        first_s=first_s,
        total_s=total_s,
    )
