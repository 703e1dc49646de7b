"""Majority vote: every member answers alone, and the answer that most of them give is the ensemble's.

The baseline outside the loop: it needs answers that can be equal, and as many whole answers as there are members.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from deepen_llm.evaluation.questions import AnyQuestion, Task, answer_task

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble

DIGITS = 9
"""Sums of weights that agree so far are equal: they are sums of rounded numbers."""


def normalize_answer(text: str) -> str:
    """The first line of a text as answers are compared: without spaces around it, full stop at its end, and case."""
    lines = text.strip().splitlines()
    return " ".join(lines[0].split()).rstrip(".").casefold() if lines else ""


def majority_vote(
    answers: Sequence[str],
    *,
    weights: Sequence[float] | None = None,
    main: int = 0,
    normalize: Callable[[str], str] = normalize_answer,
) -> int:
    """Whose answer wins: the member's position.

    The answer that most members give, compared when normalized; of equally many, the one with the higher total weight;
    then the one that the main model gives; then the one that comes first. An empty answer is no vote, unless all are
    empty. Of the members that give it, the main model speaks, or else the first.

    Args:
        answers: One a member.
        weights: One a member; uniform if not given.
        main: The main model's position.
        normalize: What makes two answers equal.

    Raises:
        ValueError: No answers, not as many weights as answers, or no member at `main`.
    """
    weights = [1.0] * len(answers) if weights is None else weights
    if not answers or len(weights) != len(answers) or not 0 <= main < len(answers):
        raise ValueError(
            "a vote needs an answer and a weight a member, and a main model among them; "
            f"got {len(answers)} answers, {len(weights)} weights and main model {main}"
        )
    groups: dict[str, list[int]] = {}
    for member, answer in enumerate(answers):
        groups.setdefault(normalize(answer), []).append(member)
    votes = [members for said, members in groups.items() if said] or list(groups.values())

    def strength(members: list[int]) -> tuple[int, float, bool]:
        total = math.fsum(weights[member] for member in members)
        return len(members), round(total, DIGITS), main in members

    winners = max(votes, key=strength)
    return main if main in winners else winners[0]


def vote_on_task(
    members: Sequence[Ensemble],
    task: Task[AnyQuestion],
    *,
    weights: Sequence[float] | None = None,
    main: int = 0,
    normalize: Callable[[AnyQuestion, str], str] | None = None,
    on_answered: Callable[[int], None] | None = None,
) -> tuple[bool, ...]:
    """Have every member answer every question, and grade the answers that win.

    Args:
        members: Ensembles of one member each, in order.
        task: What is asked.
        weights: One a member; uniform if not given.
        main: The main model's position.
        normalize: What an answer to a question is compared by; `normalize_answer` of the text if not given.
        on_answered: Told the number of answers each time that a batch of them is there.

    Returns:
        Whether each answer that won is right, in the order of the questions.

    Raises:
        ValueError: See `majority_vote`.
        DeepenError: A prompt that does not fit, or a member that failed.
    """
    answers = [_collect_answers(member, task, on_answered) for member in members]
    grades = []
    for question, given in zip(task.questions, zip(*answers, strict=True), strict=True):

        def key(text: str, question: AnyQuestion = question) -> str:
            return normalize_answer(text) if normalize is None else normalize(question, text)

        winner = majority_vote(given, weights=weights, main=main, normalize=key)
        grades.append(task.is_correct(question, given[winner]))
    return tuple(grades)


def _collect_answers(
    ensemble: Ensemble, task: Task[AnyQuestion], on_answered: Callable[[int], None] | None
) -> list[str]:
    """The texts of all answers, in the order of the questions: they are graded in that order."""
    texts: list[str] = []

    def keep(question: AnyQuestion, text: str) -> bool:
        texts.append(text)
        return task.is_correct(question, text)

    answer_task(ensemble, Task(task.name, task.questions, keep), on_answered=on_answered)
    return texts
