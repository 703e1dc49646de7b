"""Members alone on a text of the user's own: who predicts it best, in bits per byte over the same bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, final

from deepen_llm.compatibility import comparable_texts
from deepen_llm.config import EnsembleConfig, MemberConfig
from deepen_llm.errors import ConfigError, ContextLengthError, VocabularyError
from deepen_llm.evaluation.context_window import Passage, split_passages
from deepen_llm.evaluation.estimates import Estimate
from deepen_llm.evaluation.scores import Scores
from deepen_llm.members.borrowed import BorrowedMember

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble
    from deepen_llm.members.base import Member

Strength = Literal["best", "about equal", "weaker", "far weaker"]
Report = Callable[[str, int], None]

PASSAGE_CHARACTERS = 1000
"""Passages are no longer: a few long ones would not run side by side, and would give no interval."""
EQUAL_SHARE = 0.05
"""Up to so much more bits per byte than the best member's, a member is about equal."""
FAR_SHARE = 0.25
"""From so much more on, it is far weaker."""


@final
@dataclass(frozen=True, slots=True)
class OwnText:
    """A text in passages that every member can write and that fit all of them."""

    passages: tuple[Passage, ...]
    left_out_share: float = 0.0
    """The share of the characters that is not compared because some member cannot write it, 0 to 1."""

    @classmethod
    def cut(cls, members: Sequence[Member], texts: Iterable[str]) -> Self:
        """Cut texts; of one that some member cannot write, the lines that all can, each by itself.

        Raises:
            ConfigError: Less than two words, or no space for longer than a context.
            VocabularyError: No line that all members can write.
        """
        whole = [text for text in texts if text.strip()]
        kept = comparable_texts([member.vocabulary for member in members], whole)
        if whole and not kept:
            raise VocabularyError(_explain_nothing_common(members, whole))
        passages = tuple(passage for text in kept for passage in _split(members, text))
        if not passages:
            raise ConfigError(
                "a text to compare members on must hold two words, with a space between them, that fit into every "
                "context; this one does not: give a longer text"
            )
        return cls(passages, 1 - sum(map(len, kept)) / sum(map(len, whole)))

    @property
    def num_bytes(self) -> int:
        """What is scored, in UTF-8: all but the first word of each passage."""
        return sum(passage.num_bytes for passage in self.passages)


@final
@dataclass(frozen=True, slots=True)
class MemberOnText:
    """One member alone on the passages."""

    name: str
    scores: Scores

    @property
    def bits_per_byte(self) -> Estimate:
        """Lower is better. The interval is of a bootstrap over the passages: not a number where there is one."""
        return self.scores.estimate


@final
@dataclass(frozen=True, slots=True)
class TextComparison:
    """Members on the same passages of a text, in the order of the ensemble."""

    members: tuple[MemberOnText, ...]
    text: OwnText

    @property
    def best(self) -> MemberOnText:
        """The member that predicts the text best; of equals, the first."""
        return min(self.members, key=lambda member: member.bits_per_byte.value)

    @property
    def far_weaker(self) -> tuple[str, ...]:
        """The names of the members that are far weaker than the best one."""
        return tuple(member.name for member in self.members if self.strength(member) == "far weaker")

    def more_bits(self, member: MemberOnText) -> float:
        """By what share a member needs more bits per byte than the best one; 0 for the best."""
        value, least = member.bits_per_byte.value, self.best.bits_per_byte.value
        if value == least:
            return 0.0
        return value / least - 1 if least > 0 else math.inf

    def strength(self, member: MemberOnText) -> Strength:
        """That share in words."""
        more = self.more_bits(member)
        if more == 0:
            return "best"
        if more <= EQUAL_SHARE:
            return "about equal"
        return "weaker" if more <= FAR_SHARE else "far weaker"

    def is_sure(self, member: MemberOnText) -> bool:
        """Whether the best one is better beyond doubt: the 95% interval of the paired difference is above 0."""
        return member.scores.minus(self.best.scores).low > 0


def compare_on_text(ensemble: Ensemble, text: OwnText, report: Report | None = None) -> TextComparison:
    """Score every member alone on the passages, as `deepen eval --text` does. The ensemble must be idle meanwhile.

    Args:
        ensemble: Its members are used as they are loaded.
        text: What is scored.
        report: Told a member's name, and the number of passages each time that some are scored; 0 when one begins.

    Raises:
        MemberError: A member failed.
        NumericalError: A member's logits hold NaN.
    """
    report = report or (lambda *_: None)
    size = ensemble.config.max_batch_size
    pairs = zip(ensemble.members, ensemble.config.members, strict=True)
    scored = tuple(_score(member, one.temperature, text, size, report) for member, one in pairs)
    return TextComparison(scored, text)


def _score(member: Member, temperature: float, text: OwnText, batch_size: int, report: Report) -> MemberOnText:
    from deepen_llm.ensemble import Ensemble

    report(member.name, 0)
    bits: list[float] = []
    alone = MemberConfig(model=member.name, temperature=temperature)
    config = EnsembleConfig(members=(alone,), max_batch_size=batch_size)
    with Ensemble([BorrowedMember(member)], config) as ensemble:
        for begin in range(0, len(text.passages), batch_size):
            batch = text.passages[begin : begin + batch_size]
            scored = ensemble.score_batch([(passage.beginning, passage.continuation) for passage in batch])
            bits += [-score.logprob / math.log(2) for score in scored]
            report(member.name, len(batch))
    sizes = tuple(float(passage.num_bytes) for passage in text.passages)
    return MemberOnText(member.name, Scores(tuple(bits), sizes, is_share=False))


def _split(members: Sequence[Member], text: str) -> list[Passage]:
    """A text's passages; where a stretch without a space is too long, those of its lines without such a one."""
    try:
        return split_passages(members, text, max_characters=PASSAGE_CHARACTERS)
    except ContextLengthError:
        lines = text.splitlines()
    return [passage for line in lines if line != text for passage in _split(members, line)]


def _explain_nothing_common(members: Sequence[Member], texts: Sequence[str]) -> str:
    characters = dict.fromkeys("".join(texts))
    missing = {
        member.name: next((one for one in characters if not member.vocabulary.can_express(one)), None)
        for member in members
    }
    unable = ", ".join(f"{name} cannot write {one!r}" for name, one in missing.items() if one is not None)
    return (
        "members are compared on lines that all of them can write, and this text has none "
        f"({unable or 'taken together'}): give another text, or leave such a member out"
    )
