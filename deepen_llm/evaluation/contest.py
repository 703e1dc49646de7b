"""Contestants, each member alone and all together by each method, and what each reached in every task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deepen_llm.errors import PromptError, VocabularyError
from deepen_llm.evaluation.comparison import each_alone
from deepen_llm.evaluation.journal import Journal
from deepen_llm.evaluation.respondent import Respondent
from deepen_llm.evaluation.tally import Cost, Tally

if TYPE_CHECKING:
    from deepen_llm.config import EnsembleConfig, FusionConfig
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.evaluation.assignments import Assignment


@dataclass(frozen=True)
class Entrant:
    """Somebody who takes part: a configuration under a name."""

    name: str
    config: EnsembleConfig
    is_member: bool
    """Whether this is a member alone."""


@dataclass(frozen=True)
class Outcome:
    """One entrant in one task: what it reached, or why it could not do it."""

    tally: Tally | None
    cost: Cost
    refusal: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """One entrant in every task."""

    entrant: Entrant
    identity: dict[str, Any]
    outcomes: dict[str, Outcome] = field(default_factory=dict)


def list_entrants(
    config: EnsembleConfig, member_names: Sequence[str], methods: dict[str, FusionConfig], *, with_members: bool
) -> Iterator[Entrant]:
    """Each member alone, where wanted, then all of them by each method. A single member has nothing to fuse."""
    if with_members or len(member_names) == 1:
        for name, alone in zip(member_names, each_alone(config), strict=True):
            yield Entrant(f"{name} alone", alone, is_member=True)
    if len(member_names) > 1:
        for name, fusion in methods.items():
            yield Entrant(f"ensemble, {name}", config.replace(fusion=fusion), is_member=False)


def run_entrant(
    entrant: Entrant,
    open_ensemble: Callable[[EnsembleConfig], AbstractContextManager[Ensemble]],
    assignments: Sequence[Assignment],
    journal: Journal,
    report: Callable[[str, int], None],
) -> Result:
    """Have one entrant do every assignment. What it cannot do is noted; a member that fails ends the run.

    Args:
        entrant: Who.
        open_ensemble: Loads the models; closed again when all is done.
        assignments: What.
        journal: What was answered before.
        report: Told the label and the number of requests each time that some are answered.

    Raises:
        DeepenError: A model that cannot be loaded or fails.
    """
    with open_ensemble(entrant.config) as ensemble:
        result = Result(entrant, ensemble.identity)
        for assignment in assignments:
            label = f"{entrant.name}: {assignment.name}"
            report(label, 0)
            respondent = Respondent(ensemble, journal, lambda number, label=label: report(label, number))  # type: ignore[misc]
            result.outcomes[assignment.name] = _run_assignment(assignment, respondent)
    return result


def _run_assignment(assignment: Assignment, respondent: Respondent) -> Outcome:
    notes = assignment.describe_limits(respondent.ensemble.members)
    try:
        tally = assignment.run(respondent)
    except (PromptError, VocabularyError) as error:
        return Outcome(None, Cost.of(respondent.answers), refusal=str(error), notes=notes)
    return Outcome(tally, Cost.of(respondent.answers), notes=notes)
