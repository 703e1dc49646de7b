"""What a system can be asked to do: tasks from files, the starter tasks, and a text."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, final

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError
from deepen_llm.evaluation.context_window import Passage, split_passages
from deepen_llm.evaluation.grading import first_line, is_among, is_number
from deepen_llm.evaluation.requests import GenerateRequest, ScoreRequest, check_expressible
from deepen_llm.evaluation.runner import Runner
from deepen_llm.evaluation.scores import Scores
from deepen_llm.starter import TASKS
from deepen_llm.text_file import read_text

if TYPE_CHECKING:
    from deepen_llm.evaluation.items import Item
    from deepen_llm.evaluation.task_file import ScoreBy, TaskFile
    from deepen_llm.members.base import Member
    from deepen_llm.starter.tasks import Question

TASK_FILES = ("arc_challenge", "gsm8k", "mmlu", "nq", "piqa", "triviaqa")
"""The tasks of arXiv 2404.12715, each a file in `tasks/`."""
GROUPS: dict[str, tuple[str, ...]] = {"paper": TASK_FILES, "starter": TASKS}
"""Names for several tasks at once."""
BITS_PER_BYTE = "bits per byte"


class Task(ABC):
    """Something that every system is asked to do, the same for each."""

    name: str
    about: str
    num_requests: int
    score_by: Literal["letter", "text"] | None = None
    """What of the options is scored; None where there are none, or where that is not settled yet."""

    @abstractmethod
    def run(self, runner: Runner) -> Scores:
        """Ask everything and grade the answers.

        Raises:
            PromptError, VocabularyError: This system cannot do it.
            DeepenError: A member failed.
        """

    def describe_limits(self, members: Sequence[Member]) -> tuple[str, ...]:
        """What to know of these members in this task, in sentences."""
        del members
        return ()


@final
class HarnessTask(Task):
    """A task file whose answers are generated, asked through lm-eval."""

    def __init__(self, task: TaskFile, items: Sequence[Item], *, in_chat: bool = False) -> None:
        self.name = task.task
        self.about = task.about
        self.num_requests = len(items)
        self._task, self._items, self._in_chat = task, items, in_chat

    def run(self, runner: Runner) -> Scores:
        """The grades of the questions."""
        from deepen_llm.evaluation.harness import HarnessModel
        from deepen_llm.evaluation.harness_tasks import run_task

        grades = run_task(HarnessModel(runner), self._task, self._items, in_chat=self._in_chat)
        return Scores.of_grades(grades)


@final
class StarterTask(Task):
    """Held-out questions for the bundled models."""

    def __init__(self, name: str, questions: Sequence[Question]) -> None:
        self.name = name
        self.about = "Held-out questions on what the bundled models learnt."
        self.num_requests = len(questions)
        self._questions = questions

    def run(self, runner: Runner) -> Scores:
        """The grades of the questions."""
        requests = [
            GenerateRequest(question.prompt, SamplingParams(max_new_tokens=question.max_new_tokens, stop=question.stop))
            for question in self._questions
        ]
        answers = runner.answer(requests)
        pairs = zip(self._questions, answers, strict=True)
        return Scores.of_grades(answers_question(question, answer.text) for question, answer in pairs)


def answers_question(question: Question, text: str) -> bool:
    """Whether a text answers a starter question; of worked arithmetic the last number of its first line counts."""
    if question.task == "arithmetic":
        return is_number(first_line(text), question.answer)
    return is_among(text, question.accepted)


@final
class TextTask(Task):
    """Bits per byte of a text, in passages."""

    name = BITS_PER_BYTE

    def __init__(self, passages: Sequence[Passage], source: str) -> None:
        num_bytes = sum(passage.num_bytes for passage in passages)
        self.about = f"{source}: {num_bytes} bytes in {len(passages)} passages. Lower is better."
        self.num_requests = len(passages)
        self._passages = passages

    @classmethod
    def load(cls, path: Path, members: Sequence[Member], limit: int | None = None) -> TextTask:
        """A text file in passages that fit every one of these members; the first `limit` of them.

        Raises:
            ConfigError: The file is not there, not UTF-8, or holds less than two words.
            ContextLengthError: A stretch without a space that is too long for a member.
        """
        return cls.cut(read_text(path, "the text to score"), path.name, members, limit)

    @classmethod
    def cut(cls, text: str, name: str, members: Sequence[Member], limit: int | None = None) -> TextTask:
        """As `load`, of a text that was read already. Raises the same."""
        passages = split_passages(members, text)[:limit]
        if not passages:
            raise ConfigError(f"{name!r} must hold at least two words to be scored")
        return cls(passages, name)

    def run(self, runner: Runner) -> Scores:
        """Bits and bytes of every passage."""
        for passage in self._passages:
            check_expressible(runner.ensemble, passage.continuation)
        asked = [ScoreRequest(passage.beginning, passage.continuation) for passage in self._passages]
        bits = [-answer.logprob / math.log(2) for answer in runner.answer(asked)]
        return Scores(tuple(bits), tuple(float(passage.num_bytes) for passage in self._passages), is_share=False)

    def describe_limits(self, members: Sequence[Member]) -> tuple[str, ...]:
        """Which members read unknown tokens in this text."""
        whole = [passage.beginning + passage.continuation for passage in self._passages]
        blind = [member.name for member in members if not all(map(member.vocabulary.can_express, whole))]
        return tuple(f"{name} reads unknown tokens: its vocabulary cannot express all of the text." for name in blind)


def find_tasks(
    names: Sequence[str],
    *,
    data_folder: Path | None = None,
    limit: int | None = None,
    in_chat: bool = False,
    score_by: ScoreBy | None = None,
) -> list[Task]:
    """The tasks of these names, or of task files given by their paths.

    Args:
        names: Tasks, groups of tasks, and paths.
        data_folder: Where the questions lie; None asks the hub.
        limit: How many questions of each.
        in_chat: Ask in the members' chat templates.
        score_by: What of the options is scored, in all tasks that have some, by letter, by text, or auto; None leaves
            it to the task files. Tasks with auto, the task files' default, go through `settle_tasks` before they run.

    Raises:
        ConfigError: A name that no task has (it lists those that there are), a task file or its questions that cannot
            be used, a starter task in a chat, `score_by` in a chat.
        MissingDependencyError: A task from a file, and lm-eval is not installed.
    """
    wanted = dict.fromkeys(task for name in names for task in GROUPS.get(name, (name,)))
    if score_by and in_chat:
        raise ConfigError(f"in a chat an option is named, not scored: leave out score_by={score_by!r}, or the chat")
    return [_find(name, data_folder, limit, in_chat=in_chat, score_by=score_by) for name in wanted]


def _find(name: str, data_folder: Path | None, limit: int | None, *, in_chat: bool, score_by: ScoreBy | None) -> Task:
    if name in TASKS:
        if in_chat:
            raise ConfigError(f"the starter task {name!r} is not asked in a chat: leave it out, or leave --chat out")
        from deepen_llm.starter.tasks import load_task

        return StarterTask(name, load_task(name, limit))
    if name not in TASK_FILES and Path(name).suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"there is no task {name!r}: the known ones are {', '.join((*TASK_FILES, *TASKS))}, the groups "
            f"{', '.join(GROUPS)}, or give the path of a task file (.yaml)"
        )
    from deepen_llm.evaluation import harness  # refuses at once where lm-eval is missing
    from deepen_llm.evaluation.items import load_items
    from deepen_llm.evaluation.task_file import TASKS_FOLDER, TaskFile

    del harness
    task = TaskFile.load(TASKS_FOLDER / f"{name}.yaml" if name in TASK_FILES else Path(name))
    if task.kind != "choice" or in_chat:
        return HarnessTask(task, load_items(task, data_folder, limit), in_chat=in_chat)
    from deepen_llm.evaluation.choice_task import ChoiceTask

    return ChoiceTask.load(task.replace(score_by=score_by) if score_by else task, data_folder, limit)
