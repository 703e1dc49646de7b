"""How options are scored, settled once for all systems: by letters where these say anything, else by text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from deepen_llm.evaluation.choice_task import ChoiceTask, LetterTrial
from deepen_llm.evaluation.request_cache import RequestCache
from deepen_llm.evaluation.runner import Runner
from deepen_llm.evaluation.systems import Report, System
from deepen_llm.evaluation.tasks import Task

if TYPE_CHECKING:
    from deepen_llm.config import EnsembleConfig
    from deepen_llm.ensemble import Ensemble


def settle_tasks(
    tasks: Sequence[Task],
    members: Sequence[System],
    open_ensemble: Callable[[EnsembleConfig], AbstractContextManager[Ensemble]],
    cache: RequestCache,
    report: Report,
) -> list[Task]:
    """The tasks, each with one way of scoring options for every system.

    Where a task leaves it open, members try its letters on a sample, one after the other and until one is above
    chance. What they answer goes into the cache, so that nothing is asked again where letters are kept.

    Args:
        tasks: What will be done.
        members: Each member alone, as in `list_members`.
        open_ensemble: Loads a member; `lend_members` takes those of an ensemble that is open already.
        cache: What was answered before, the same that the systems will use.
        report: See `Report`.

    Raises:
        DeepenError: A model that cannot be loaded or fails.
    """
    trials: dict[str, list[LetterTrial]] = {task.name: [] for task in tasks}

    for system in members:
        waiting = [task for task in tasks if isinstance(task, ChoiceTask) and task.is_open_after(trials[task.name])]
        if not waiting:
            break
        with open_ensemble(system.config) as ensemble:
            for task in waiting:
                label = f"{system.name}: {task.name}, letters"
                report(label, 0)
                runner = Runner(ensemble, cache, lambda number, label=label: report(label, number))  # type: ignore[misc]
                trials[task.name].append(task.try_letters(runner, system.name))
    return [task.settle(trials[task.name]) if isinstance(task, ChoiceTask) else task for task in tasks]


def count_trial_requests(tasks: Sequence[Task]) -> int:
    """How many requests settling these tasks takes of each member, at most."""
    return sum(task.num_trial_requests for task in tasks if isinstance(task, ChoiceTask))


def lend_members(ensemble: Ensemble) -> Callable[[EnsembleConfig], Ensemble]:
    """Opens a member of this ensemble alone, without loading it again; one at a time, and the ensemble must be idle."""
    from deepen_llm.ensemble import Ensemble as Opened
    from deepen_llm.members.borrowed import BorrowedMember

    def open_alone(config: EnsembleConfig) -> Ensemble:
        (member,) = config.members
        return Opened([BorrowedMember(ensemble.members[ensemble.config.members.index(member)])], config)

    return open_alone
