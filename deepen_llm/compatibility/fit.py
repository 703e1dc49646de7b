"""How well members fit together, judged before a run from how their tokenizers cut a sample text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, final

from deepen_llm.compatibility.agreement import Agreement, comparable_texts
from deepen_llm.vocabulary import Vocabulary, common_tokens

Cuts = Literal["alike", "mostly alike", "differently", "unknown"]

ALIKE_SHARE = 0.95
"""From this share of common token ends on, nearly every token of one member is a token of the other: there is hardly
a short token that could be taken for a vote against a longer one, so that every way of reading comes to the same."""
MOSTLY_ALIKE_SHARE = 0.75
"""From this share on, members were measured to gain from each other token by token, below it to lose.

It lies in the middle between the two: on the built-in sample the bundled models share 86% of their token ends, and
gain; a letter-by-letter model and one of short word pieces share 68%, and lose."""
MUCH_LONGER = 1.1
"""Another main model must have tokens longer than the present one's by this factor to be worth a change: each step
costs a forward pass of every member."""


@final
@dataclass(frozen=True, slots=True)
class MemberFit:
    """How one member cuts the sample: bytes per token, and the characters that it cannot express (an unknown token)."""

    name: str
    bytes_per_token: float
    missing: str
    """The distinct characters that it cannot express, the most frequent first."""
    missing_share: float
    """Their share of the sample's characters, 0 to 1."""


@final
@dataclass(frozen=True, slots=True)
class PairFit:
    """How alike two members cut the sample; `agreement` is None where no line of it can be expressed by both."""

    first: str
    second: str
    agreement: Agreement | None

    @property
    def cuts(self) -> Cuts:
        """The agreement in words."""
        if self.agreement is None:
            return "unknown"
        share = self.agreement.least_share
        if share >= ALIKE_SHARE:
            return "alike"
        return "mostly alike" if share >= MOSTLY_ALIKE_SHARE else "differently"


@final
@dataclass(frozen=True, slots=True)
class Fit:
    """Members and pairs as the sample shows them, and what follows: the main model to take and the reading to use."""

    members: tuple[MemberFit, ...]
    pairs: tuple[PairFit, ...]
    main: str
    """The main model as it is set."""

    @property
    def best_main(self) -> MemberFit:
        """The member to be main, as far as tokenizers can tell.

        Of those that miss least of the sample, the present one unless another's tokens are much longer.
        """
        least = min(member.missing_share for member in self.members)
        able = [member for member in self.members if member.missing_share == least]
        longest = max(able, key=lambda member: member.bytes_per_token)
        present = next((member for member in able if member.name == self.main), None)
        if present is not None and present.bytes_per_token * MUCH_LONGER >= longest.bytes_per_token:
            return present
        return longest

    @property
    def needs_text(self) -> bool:
        """Whether distributions should be read as text: some member does not cut as the best main model does."""
        main = self.best_main.name
        return any(pair.cuts != "alike" for pair in self.pairs if main in (pair.first, pair.second))

    def member(self, name: str) -> MemberFit:
        """The member of this name."""
        return next(member for member in self.members if member.name == name)


@final
@dataclass(frozen=True, slots=True)
class CommonTokens:
    """How many tokens these members share as bytes, and what share that is of the smallest vocabulary among them."""

    names: tuple[str, ...]
    number: int
    share: float


def count_common(members: Sequence[tuple[str, Vocabulary]]) -> list[CommonTokens]:
    """The common tokens of every two members, then, of more than two, of all together."""
    groups: list[Sequence[tuple[str, Vocabulary]]] = list(combinations(members, 2))
    if len(members) > 2:
        groups.append(members)
    found = []
    for group in groups:
        number = len(common_tokens([vocabulary for _, vocabulary in group]))
        smallest = min(sum(token is not None for token in vocabulary.tokens) for _, vocabulary in group)
        found.append(CommonTokens(tuple(name for name, _ in group), number, number / max(smallest, 1)))
    return found


def judge_fit(members: Sequence[tuple[str, Vocabulary]], main: str, sample: Mapping[str, str]) -> Fit:
    """Compare how members cut a sample.

    Args:
        members: Their names and vocabularies; a model that is there twice has one vocabulary and two names.
        main: The main model's name.
        sample: Texts by name, none of them empty.
    """
    texts = list(sample.values())
    pairs = []
    for (first_name, first), (second_name, second) in combinations(members, 2):
        comparable = comparable_texts((first, second), texts)
        agreement = Agreement.over(first, second, comparable) if comparable else None
        pairs.append(PairFit(first_name, second_name, agreement))
    return Fit(tuple(measure_member(name, vocabulary, texts) for name, vocabulary in members), tuple(pairs), main)


def measure_member(name: str, vocabulary: Vocabulary, texts: Sequence[str]) -> MemberFit:
    """One member's bytes per token over these texts, and what it cannot express of them."""
    whole = "".join(texts)
    missing = sorted(
        (character for character in set(whole) if not vocabulary.can_express(character)),
        key=lambda character: (-whole.count(character), character),
    )
    num_tokens = sum(len(vocabulary.encode(text)) for text in texts)
    num_bytes = sum(len(text.encode("utf-8", "replace")) for text in texts)
    num_missing = sum(whole.count(character) for character in missing)
    return MemberFit(name, num_bytes / max(num_tokens, 1), "".join(missing), num_missing / len(whole))
