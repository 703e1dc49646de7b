"""Questions with options, of which the letters or the texts are scored, and the trial that says which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from deepen_llm.errors import ConfigError, PromptError, VocabularyError
from deepen_llm.evaluation.estimates import chance_of_guessing
from deepen_llm.evaluation.runner import Runner
from deepen_llm.evaluation.scores import Scores
from deepen_llm.evaluation.tasks import Task

if TYPE_CHECKING:
    from deepen_llm.evaluation.items import Item
    from deepen_llm.evaluation.task_file import TaskFile, Way

TRIAL_SIZE = 40
"""The most questions on which letters are tried."""
SIGNIFICANCE = 0.05
"""Letters are above chance where guessing gets as many right, or more, with less than this probability."""
ABOUT = {
    "letter": "By letter: of the options' letters the most probable one counts.",
    "text": "By text: the option whose text has the highest log-probability per byte counts; options are not listed.",
}


@final
@dataclass(frozen=True)
class LetterTrial:
    """How one member did alone, by letters, on a sample of the questions."""

    member: str
    num_right: int
    chances: tuple[float, ...]
    """That of guessing each question."""
    refusal: str = ""
    """Why the member could not be asked; it then has nothing right."""

    @property
    def p_value(self) -> float:
        """The probability of so many right answers, or more, by guessing: one-sided and exact."""
        return chance_of_guessing(self.num_right, self.chances)

    @property
    def is_above_chance(self) -> bool:
        """Whether the member does better than guessing."""
        return self.p_value < SIGNIFICANCE

    def describe(self) -> str:
        """The outcome in words."""
        if self.refusal:
            return f"{self.member} could not be asked: {self.refusal}"
        return (
            f"{self.member} got {self.num_right} of {len(self.chances)} right, guessing gets {sum(self.chances):.0f}, "
            f"p = {self.p_value:.2g}"
        )


@final
class ChoiceTask(Task):
    """A task file whose options are scored, through lm-eval. With `auto`, not before it is settled (`settle_tasks`)."""

    def __init__(
        self,
        task: TaskFile,
        items: Sequence[Item],
        *,
        sample: Sequence[Item] = (),
        settled: Way | None = None,
        why: str = "",
    ) -> None:
        """What is asked, the sample to try letters on where the task file leaves the way open, and how that went."""
        self.name = task.task
        self.score_by = settled or (None if task.score_by == "auto" else task.score_by)
        self.about = " ".join(filter(None, (task.about, ABOUT.get(self.score_by or ""), why)))
        self.num_requests = sum(item.num_options for item in items)
        self._task, self._items, self._sample = task, items, sample

    @classmethod
    def load(cls, task: TaskFile, data_folder: Path | None, limit: int | None) -> ChoiceTask:
        """The questions, and of those a sample that is the same for every limit from `TRIAL_SIZE` on.

        Raises what `load_items` does.
        """
        from deepen_llm.evaluation.items import load_items

        items = load_items(task, data_folder, limit)
        if task.score_by != "auto":
            return cls(task, items)
        return cls(task, items, sample=load_items(task, data_folder, min(limit or TRIAL_SIZE, TRIAL_SIZE)))

    @property
    def num_trial_requests(self) -> int:
        """What each member is asked in a trial, at most; 0 where none is needed or the questions are too few."""
        is_decidable = chance_of_guessing(len(self._sample), _chances(self._sample)) < SIGNIFICANCE
        return sum(item.num_options for item in self._sample) if is_decidable and self.score_by is None else 0

    def is_open_after(self, trials: Sequence[LetterTrial]) -> bool:
        """Whether one more member's trial could change what is settled."""
        return self.num_trial_requests > 0 and not any(trial.is_above_chance for trial in trials)

    def try_letters(self, runner: Runner, member: str) -> LetterTrial:
        """How a member does by letters on the sample. What it answers is kept, and not asked again in `run`.

        Raises:
            DeepenError: The member failed.
        """
        try:
            grades = self._grade(runner, self._sample, "letter")
        except (PromptError, VocabularyError) as error:
            return LetterTrial(member, 0, _chances(self._sample), refusal=str(error))
        return LetterTrial(member, sum(grades), _chances(self._sample))

    def settle(self, trials: Sequence[LetterTrial]) -> ChoiceTask:
        """The task by letters where a member is above chance with them, else by text; `about` says why."""
        if self.score_by is not None:
            return self
        able = any(trial.is_above_chance for trial in trials)
        why = _explain(trials, len(self._sample))
        return ChoiceTask(self._task, self._items, settled="letter" if able else "text", why=why)

    def run(self, runner: Runner) -> Scores:
        """The grades of the questions.

        Raises:
            ConfigError: It is not settled what is scored.
            DeepenError: As in `Task.run`.
        """
        if self.score_by is None:
            raise ConfigError(
                f"task {self.name!r} is scored by letter or by text as its members' letters do on a sample: pass the "
                'tasks through settle_tasks first, or give find_tasks score_by="letter" or "text"'
            )
        return Scores.of_grades(self._grade(runner, self._items, self.score_by))

    def _grade(self, runner: Runner, items: Sequence[Item], way: Way) -> tuple[bool, ...]:
        from deepen_llm.evaluation.harness import HarnessModel
        from deepen_llm.evaluation.harness_tasks import run_task

        return run_task(HarnessModel(runner), self._task, items, score_by=way)


def _chances(items: Sequence[Item]) -> tuple[float, ...]:
    return tuple(1 / max(1, item.num_options) for item in items)


def _explain(trials: Sequence[LetterTrial], sample_size: int) -> str:
    if not trials:
        return f"So chosen because {sample_size} questions are too few to tell letters from guessing."
    best = min(trials, key=lambda trial: trial.p_value)
    found = "a member's letters are" if best.is_above_chance else "no member's letters are"
    return f"So chosen because on {sample_size} of the questions {found} above chance: {best.describe()}."
