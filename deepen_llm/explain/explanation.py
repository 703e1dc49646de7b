"""An answer taken apart: what was asked, who answered, and each token with who decided it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

from deepen_llm.decoding.detokenizer import Detokenizer
from deepen_llm.ensemble import Ensemble
from deepen_llm.explain.deciding import Decision, decide, read_token
from deepen_llm.explain.weight_curve import WeightCurve
from deepen_llm.results import StepTrace
from deepen_llm.vocabulary import Vocabulary


@final
@dataclass(frozen=True, slots=True)
class ExplainedMember:
    """One member: its name, its weight as it was last, and whether it is the main model."""

    name: str
    weight: float
    is_main: bool
    first_weight: float | None = None
    """Its weight at the first token for which members were asked; None where the trace tells none."""


@final
@dataclass(frozen=True, slots=True)
class ExplainedToken:
    """One token of the answer.

    `text` is what it adds to the answer: nothing while a character is not whole, and at the end of the sequence.
    `cut_text` is what a stop string took away.
    """

    text: str
    cut_text: str
    step: StepTrace
    decision: Decision
    is_end: bool
    matches: Mapping[str, tuple[bool, ...]]
    """For each member, which of its best tokens read exactly as the one chosen."""

    @property
    def is_fused(self) -> bool:
        """Whether the members' distributions were fused at this step."""
        return self.step.is_fused

    @property
    def is_left_alone(self) -> bool:
        """Whether the step was left to the main model: there was a choice, and the others were not asked."""
        return not self.is_fused and self.decision.kind != "forced"

    @property
    def is_best(self) -> bool:
        """Whether the token is the most probable fused one; another one was drawn."""
        return not self.step.fused or self.step.fused[0].token_id == self.step.token_id


@final
@dataclass(frozen=True, slots=True)
class Explanation:
    """What was asked, as (role, text) pairs with no role outside a chat, who answered, and the answer's tokens."""

    asked: tuple[tuple[str, str], ...]
    members: tuple[ExplainedMember, ...]
    tokens: tuple[ExplainedToken, ...]

    @property
    def counts(self) -> Counter[Decision]:
        """How many tokens each decision took; of those of several members, one entry with no names."""
        several = ("agreed", "overruled")
        return Counter(
            replace(token.decision, members=()) if token.decision.kind in several else token.decision
            for token in self.tokens
        )

    @property
    def weight_curve(self) -> WeightCurve:
        """The members' weights over the tokens."""
        names = [member.name for member in self.members]
        return WeightCurve.trace(
            names, [token.step for token in self.tokens], [member.weight for member in self.members]
        )

    @property
    def num_fused(self) -> int:
        """Tokens for which the members' distributions were fused."""
        return sum(token.is_fused for token in self.tokens)


def explain_answer(
    ensemble: Ensemble,
    asked: str | Sequence[Mapping[str, str]],
    text: str,
    trace: Iterable[StepTrace],
    *,
    weights: Sequence[float] | None = None,
) -> Explanation:
    """Take an answer apart.

    Args:
        ensemble: Who answered.
        asked: The prompt, or the messages of a chat.
        text: The answer.
        trace: Its steps (`SamplingParams(trace=True)`).
        weights: One a member after this answer (`FusionReport.weights`); if not given, those of the last step that
            has any, or else those with which any request begins.
    """
    vocabularies = {member.name: member.vocabulary for member in ensemble.members}
    trace = list(trace)
    curve = WeightCurve.trace(ensemble.member_names, trace, weights or ())
    weights = weights or curve.last or ensemble.prior_weights
    return Explanation(
        asked=(("", asked),) if isinstance(asked, str) else tuple((m["role"], m["content"]) for m in asked),
        members=tuple(
            ExplainedMember(name, weight, name == ensemble.main_name, first)
            for name, weight, first in zip(
                ensemble.member_names, weights, curve.first or [None] * len(weights), strict=True
            )
        ),
        tokens=tuple(explain_tokens(trace, text, vocabularies, ensemble.main_name)),
    )


def explain_tokens(
    trace: Sequence[StepTrace], text: str, vocabularies: Mapping[str, Vocabulary], main: str
) -> Iterable[ExplainedToken]:
    """Each step's token with the part of the answer that it made.

    Args:
        trace: The steps.
        text: The answer.
        vocabularies: Every member's, by name, in the ensemble's order.
        main: The main model's name.
    """
    position = 0
    for step, piece in zip(trace, split_answer(trace, text, vocabularies[main]), strict=True):
        yield explain_token(step, piece, len(text) - position, vocabularies, main)
        position += len(piece)


def explain_token(
    step: StepTrace, piece: str, num_left: int, vocabularies: Mapping[str, Vocabulary], main: str
) -> ExplainedToken:
    """One step's token, which adds `piece` to an answer of which `num_left` characters are left from there on."""
    num_kept = min(len(piece), max(num_left, 0))
    return ExplainedToken(
        text=piece[:num_kept],
        cut_text=piece[num_kept:],
        step=step,
        decision=decide(step, vocabularies, main),
        is_end=step.token_id in vocabularies[main].eos_ids,
        matches=_find_matches(step, vocabularies, main),
    )


def split_answer(trace: Sequence[StepTrace], text: str, vocabulary: Vocabulary) -> list[str]:
    """What each token adds to the answer; a character belongs to the token that completes it."""
    tokens = [vocabulary.tokens[step.token_id] or b"" for step in trace]
    # The engine drops the spaces before an answer that are the tokenizer's or the chat template's; the text tells.
    detokenizer = Detokenizer(num_spaces=count_dropped(tokens, text))
    pieces = [detokenizer.push(token) for token in tokens]
    if pieces:
        pieces[-1] += detokenizer.flush()
    return pieces


def count_dropped(tokens: Sequence[bytes], text: str) -> int:
    """How many spaces at the beginning of the first tokens are not in the answer's text."""
    return max(_count_spaces(b"".join(tokens).decode("utf-8", "replace")) - _count_spaces(text), 0)


def _count_spaces(text: str) -> int:
    """The spaces at the beginning."""
    return len(text) - len(text.lstrip(" "))


def _find_matches(step: StepTrace, vocabularies: Mapping[str, Vocabulary], main: str) -> dict[str, tuple[bool, ...]]:
    """Special tokens other than ends match nothing: each means what its own model makes of it."""
    chosen = read_token(vocabularies[main], step.token_id)
    return {
        view.member: tuple(
            chosen is not None and read_token(vocabularies[view.member], one.token_id) == chosen for one in view.top
        )
        for view in step.members
    }
