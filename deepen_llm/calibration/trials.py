"""Trying choices on loaded members: one ensemble per choice, the models loaded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast, final

from deepen_llm.calibration.choice import Choice, Trial
from deepen_llm.calibration.development_set import DevelopmentRow, DevelopmentSet
from deepen_llm.config import EnsembleConfig, SamplingParams, WeightingConfig
from deepen_llm.ensemble import Ensemble
from deepen_llm.evaluation.grading import is_among
from deepen_llm.members.base import Member
from deepen_llm.members.borrowed import BorrowedMember
from deepen_llm.results import Score
from deepen_llm.vocabulary.chat import Message
from deepen_llm.weighting.adaptive import AdaptiveWeightingConfig, weigh_by_size

FURTHER_TOKENS = 4

Found = TypeVar("Found")
OnScored = Callable[[Choice, int], None]


def start_of(ensemble: Ensemble, *, fixed: bool = False, uniform: bool = False) -> Choice:
    """An ensemble as it is, with the weights that are the default.

    Args:
        ensemble: Its main model, trust and temperatures count.
        fixed: Uniform weights that do not learn; so it is anyway with a method that takes no distributions as text.
        uniform: A uniform prior, not one by size.
    """
    num_members, config = len(ensemble.members), ensemble.config
    main, temperatures = ensemble.member_names.index(ensemble.main_name), [one.temperature for one in config.members]
    weights = (1 / num_members,) * num_members
    if fixed or not config.fusion.projects:
        return Choice(main, weights, config.fusion.trust, temperatures=tuple(temperatures))
    if not uniform:
        weights = weigh_by_size([member.num_parameters for member in ensemble.members])
    eta, alone = (AdaptiveWeightingConfig.model_fields[name].get_default() for name in ("eta", "alone"))
    return Choice(main, weights, config.fusion.trust, eta, alone, tuple(temperatures))


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
            on_scored: Told the choice and the number of rows each time that some are done; 0 when a trial begins.
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
        found = self._run(choice, _score)
        scores = tuple(self._development.score(one.logprob) for one in found)
        return Trial(choice, scores, tuple(one.is_greedy for one in found))

    def count_right(self, choice: Choice) -> int:
        """How many greedy answers are right under a choice: exact match of the first line, as in `deepen eval`.

        Raises what a call does.
        """
        texts = self._run(choice, _answer)
        rows = self._development.rows
        return sum(is_among(text, [row.answer]) for text, row in zip(texts, rows, strict=True))

    def configure(self, choice: Choice) -> EnsembleConfig:
        """The configuration with a choice written in."""
        weights: tuple[float, ...] | WeightingConfig = choice.weights
        if choice.learns:
            weights = WeightingConfig(kind="adaptive", prior=choice.weights, eta=choice.eta, alone=choice.alone)
        members = self._config.members
        if choice.temperatures is not None:
            pairs = zip(members, choice.temperatures, strict=True)
            members = tuple(one if one.temperature == t else one.replace(temperature=t) for one, t in pairs)
        fusion = self._config.fusion.replace(trust=choice.trust)
        return self._config.replace(members=members, main=choice.main, weights=weights, fusion=fusion)

    def _run(self, choice: Choice, ask: Callable[[Ensemble, Sequence[DevelopmentRow]], list[Found]]) -> list[Found]:
        """What is found for every row, batch by batch. A member alone runs without the others."""
        self._on_scored(choice, 0)
        rows, size = self._development.rows, self._config.max_batch_size
        members, config = self._members, self.configure(choice)
        if choice.is_alone:
            members = members[choice.main : choice.main + 1]
            config = config.replace(members=config.members[choice.main : choice.main + 1], main=0, weights=None)
        found: list[Found] = []
        with Ensemble([BorrowedMember(member) for member in members], config) as ensemble:
            for begin in range(0, len(rows), size):
                batch = rows[begin : begin + size]
                found += ask(ensemble, batch)
                self._on_scored(choice, len(batch))
        return found


def _score(ensemble: Ensemble, rows: Sequence[DevelopmentRow]) -> list[Score]:
    if isinstance(rows[0].prompt, str):
        return ensemble.score_batch([(cast(str, row.prompt), row.answer) for row in rows])
    return ensemble.score_chat_batch([(cast(Sequence[Message], row.prompt), row.answer) for row in rows])


def _answer(ensemble: Ensemble, rows: Sequence[DevelopmentRow]) -> list[str]:
    """Greedy answers with room for a few tokens more than the longest right one."""
    params = SamplingParams(max_new_tokens=max(ensemble.count_tokens(row.answer) for row in rows) + FURTHER_TOKENS)
    if not isinstance(rows[0].prompt, str):
        with ThreadPoolExecutor(len(rows)) as pool:  # so that they run side by side
            replies = pool.map(lambda row: ensemble.chat(cast(Sequence[Message], row.prompt), params), rows)
            return [reply.text for reply in replies]
    if not any(row.answer.lstrip(" ").startswith("\n") for row in rows):
        params = params.replace(stop=("\n",))
    return [generation.text for generation in ensemble.generate([cast(str, row.prompt) for row in rows], params)]
