"""Systems that are compared, each member alone and all together by each method, and what each reached in every task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deepen_llm.config import FusionConfig
from deepen_llm.errors import ConfigError, PromptError, VocabularyError
from deepen_llm.evaluation.request_cache import RequestCache
from deepen_llm.evaluation.runner import Runner
from deepen_llm.evaluation.scores import Cost, Scores

if TYPE_CHECKING:
    from deepen_llm.config import EnsembleConfig
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.evaluation.tasks import Task

METHODS: dict[str, FusionConfig] = {
    "default": FusionConfig(),
    "published": FusionConfig.published(),
    "relative-token": FusionConfig(method="relative", reading="token"),
    "relative-text": FusionConfig(method="relative", reading="text"),
    "text": FusionConfig(method="text"),
    "text-geometric": FusionConfig(method="text", mean="geometric"),
    "equal-text": FusionConfig(method="equal_text"),
    "union": FusionConfig(method="union"),
}
"""A name for every fusion setting worth comparing, whatever the default is. Add to it to compare one of your own."""
Report = Callable[[str, int], None]
"""Told what is being done, and the number of requests each time that some are answered."""


@dataclass(frozen=True)
class System:
    """What is evaluated: a configuration under a name."""

    name: str
    config: EnsembleConfig
    is_member: bool
    """Whether this is a member alone."""


@dataclass(frozen=True)
class TaskResult:
    """One system in one task: what it reached, or why it could not do it."""

    scores: Scores | None
    cost: Cost
    refusal: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SystemResult:
    """One system in every task."""

    system: System
    identity: dict[str, Any] = field(default_factory=dict)
    """What tells its answers apart from those of others; see `Ensemble.identity`."""
    tasks: dict[str, TaskResult] = field(default_factory=dict)


def each_alone(config: EnsembleConfig) -> Iterator[EnsembleConfig]:
    """A configuration of each member without the others."""
    for member in config.members:
        yield config.replace(members=(member,), weights=None, main=0)


def list_members(config: EnsembleConfig, member_names: Sequence[str]) -> list[System]:
    """Each member alone."""
    alone = zip(member_names, each_alone(config), strict=True)
    return [System(f"{name} alone", member, is_member=True) for name, member in alone]


def list_systems(
    config: EnsembleConfig, member_names: Sequence[str], methods: dict[str, FusionConfig], *, with_members: bool
) -> list[System]:
    """Each member alone, where wanted, then all of them by each method. A single member has nothing to fuse."""
    members = list_members(config, member_names)
    if len(members) == 1:
        return members
    ensembles = [
        System(f"ensemble, {name}", config.replace(fusion=fusion), is_member=False) for name, fusion in methods.items()
    ]
    return [*members, *ensembles] if with_members else ensembles


def find_method(name: str) -> FusionConfig:
    """The fusion settings of this name.

    Raises:
        ConfigError: No method has the name; it lists those that there are.
    """
    if name not in METHODS:
        raise ConfigError(f"there is no method {name!r}: the known ones are {', '.join(METHODS)}")
    return METHODS[name]


def run_system(
    system: System,
    open_ensemble: Callable[[EnsembleConfig], AbstractContextManager[Ensemble]],
    tasks: Sequence[Task],
    cache: RequestCache,
    report: Report,
) -> SystemResult:
    """Run every task on one system. What it cannot do is noted; a member that fails ends the run.

    Args:
        system: Who.
        open_ensemble: Loads the models; closed again when all is done.
        tasks: What.
        cache: What was answered before.
        report: See `Report`.

    Raises:
        DeepenError: A model that cannot be loaded or fails.
    """
    with open_ensemble(system.config) as ensemble:
        result = SystemResult(system, ensemble.identity)
        for task in tasks:
            label = f"{system.name}: {task.name}"
            report(label, 0)
            runner = Runner(ensemble, cache, lambda number, label=label: report(label, number))  # type: ignore[misc]
            result.tasks[task.name] = _run_task(task, runner)
    return result


def _run_task(task: Task, runner: Runner) -> TaskResult:
    notes = task.describe_limits(runner.ensemble.members)
    try:
        scores = task.run(runner)
    except (PromptError, VocabularyError) as error:
        return TaskResult(None, Cost.of(runner.answers), refusal=str(error), notes=notes)
    return TaskResult(scores, Cost.of(runner.answers), notes=notes)
