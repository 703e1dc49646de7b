"""Questions, and an ensemble that answers them in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from deepen_llm.config import SamplingParams

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble


class Question(Protocol):
    """What every question says of itself."""

    @property
    def prompt(self) -> str:
        """What the models read."""

    @property
    def stop(self) -> tuple[str, ...]:
        """Strings at which an answer ends."""

    @property
    def max_new_tokens(self) -> int:
        """The longest answer, in tokens of the main model."""


AnyQuestion = TypeVar("AnyQuestion", bound=Question)


@dataclass(frozen=True)
class Task(Generic[AnyQuestion]):
    """Questions of one kind, and how an answer to one is graded."""

    name: str
    questions: Sequence[AnyQuestion]
    is_correct: Callable[[AnyQuestion, str], bool]


def answer_task(
    ensemble: Ensemble, task: Task[AnyQuestion], *, on_answered: Callable[[int], None] | None = None
) -> tuple[bool, ...]:
    """Answer every question greedily, as many at once as the ensemble runs, and grade the answers.

    Args:
        ensemble: Who answers.
        task: What is asked.
        on_answered: Told the number of questions each time that a batch of them is answered.

    Returns:
        Whether each answer is right, in the order of the questions.

    Raises:
        DeepenError: A prompt that does not fit, or a member that failed.
    """
    grades: list[bool] = []
    for params, questions in groupby(task.questions, key=_params):
        for batch in _batched(questions, ensemble.config.max_batch_size):
            generations = ensemble.generate([question.prompt for question in batch], params)
            grades += [task.is_correct(question, g.text) for question, g in zip(batch, generations, strict=True)]
            if on_answered is not None:
                on_answered(len(batch))
    return tuple(grades)


def _params(question: Question) -> SamplingParams:
    return SamplingParams(max_new_tokens=question.max_new_tokens, stop=question.stop)


def _batched(questions: Iterable[AnyQuestion], size: int) -> Iterable[list[AnyQuestion]]:
    iterator = iter(questions)
    return iter(lambda: list(islice(iterator, size)), [])
