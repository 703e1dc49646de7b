"""Trying choices on loaded members: one ensemble per choice, the models loaded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

from deepen_llm.calibration.choice import Choice, Trial
from deepen_llm.calibration.development_set import DevelopmentSet
from deepen_llm.config import EnsembleConfig
from deepen_llm.ensemble import Ensemble
from deepen_llm.members.base import Member
from deepen_llm.members.borrowed import BorrowedMember

OnScored = Callable[[Choice, int], None]


@final
class Trials:
    """Scores choices on a development set; call it with a choice."""

    def __init__(
        self,
        members: Sequence[Member],
        config: EnsembleConfig,
        development: DevelopmentSet,
        on_scored: OnScored | None = None,
    ) -> None:
        """Borrow the members: they must not run elsewhere meanwhile, and stay open.

        Args:
            members: Loaded models, one for each that the configuration names.
            config: What is the same in every trial.
            development: What is scored.
            on_scored: Told the choice and the number of rows each time that some are scored; 0 when a trial begins.
        """
        self._members = tuple(members)
        self._config = config
        self._development = development
        self._on_scored = on_scored or (lambda *_: None)

    def __call__(self, choice: Choice) -> Trial:
        """Score every row under a choice.

        Raises:
            PromptError: A row that cannot be encoded or does not fit into a member's context.
            MemberError: A member failed.
        """
        self._on_scored(choice, 0)
        rows, size = self._development.rows, self._config.max_batch_size
        found = []
        with Ensemble([BorrowedMember(member) for member in self._members], self.configure(choice)) as ensemble:
            for begin in range(0, len(rows), size):
                batch = [(row.prompt, row.answer) for row in rows[begin : begin + size]]
                found += ensemble.score_batch(batch)
                self._on_scored(choice, len(batch))
        scores = tuple(self._development.score(one.logprob) for one in found)
        return Trial(choice, scores, tuple(one.is_greedy for one in found))

    def configure(self, choice: Choice) -> EnsembleConfig:
        """The configuration with a choice written in."""
        fusion = self._config.fusion.replace(trust=choice.trust)
        return self._config.replace(main=choice.main, weights=choice.weights, fusion=fusion)
