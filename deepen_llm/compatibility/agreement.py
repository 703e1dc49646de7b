"""How alike two tokenizers cut a text: the share of token ends that they have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from itertools import accumulate
from typing import Self, final

from deepen_llm.vocabulary import Vocabulary


@final
@dataclass(frozen=True, slots=True)
class Agreement:
    """Token ends inside texts: how many a first vocabulary has, how many a second one, and how many are the same."""

    num_first: int
    num_second: int
    num_shared: int

    @classmethod
    def over(cls, first: Vocabulary, second: Vocabulary, texts: Iterable[str]) -> Self:
        """Count over texts, each cut by itself."""
        num_first = num_second = num_shared = 0
        for text in texts:
            ends, others = token_ends(first, text), token_ends(second, text)
            num_first += len(ends)
            num_second += len(others)
            num_shared += len(ends & others)
        return cls(num_first, num_second, num_shared)

    @property
    def share_of_first(self) -> float:
        """Of the first one's token ends, the share that are ends of the second, too, 0 to 1; 1 where there are none."""
        return self.num_shared / self.num_first if self.num_first else 1.0

    @property
    def share_of_second(self) -> float:
        """Of the second one's token ends, the share that are ends of the first, too, 0 to 1; 1 where there are none."""
        return self.num_shared / self.num_second if self.num_second else 1.0

    @property
    def least_share(self) -> float:
        """The smaller of both shares: 1 only where both cut the texts token for token alike.

        One share alone would not tell: every token of a word-piece model ends where a letter ends.
        """
        return min(self.share_of_first, self.share_of_second)


def token_ends(vocabulary: Vocabulary, text: str) -> Set[int]:
    """The bytes of the text (UTF-8) at which a token ends and another begins; the text's own end does not count.

    Where the tokens do not spell the text out (an unknown token, a normalizer), only the ends that fall between two
    characters of the text are told.
    """
    cut = vocabulary.segment(text)
    data = text.encode("utf-8", "replace")
    spelled = vocabulary.join(cut.ids)
    if spelled in (data, b" " + data):
        num_dummy = len(spelled) - len(data)
        ends = accumulate(len(vocabulary.tokens[token_id] or b"") for token_id in cut.ids)
        return {end - num_dummy for end in ends if 0 < end - num_dummy < len(data)}
    places = [0, *accumulate(len(character.encode("utf-8", "replace")) for character in text)]
    return {places[start] for start in cut.starts if 0 < start < len(text)}


def comparable_texts(vocabularies: Sequence[Vocabulary], texts: Iterable[str]) -> list[str]:
    """The texts that all can express; of any other text, those of its lines that all can, without line ends."""
    kept: list[str] = []
    for text in texts:
        if _all_express(vocabularies, text):
            kept.append(text)
        else:
            kept += [line for line in text.splitlines() if line and _all_express(vocabularies, line)]
    return kept


def _all_express(vocabularies: Sequence[Vocabulary], text: str) -> bool:
    return all(vocabulary.can_express(text) for vocabulary in vocabularies)
