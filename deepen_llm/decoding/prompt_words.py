"""What every member gave the words of a prompt, although each sees it in its own template and cuts it its own way.

Words are compared over the same bytes: between the ends of words that are also ends of tokens, in every member.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import final

from deepen_llm.vocabulary import Vocabulary
from deepen_llm.vocabulary.words import split_words
from deepen_llm.weighting.base import GivenWord

LEAST_MEASURED, SHARE_MEASURED, MOST_MEASURED = 24, 3, 128
"""Of a prompt's last tokens every member measures a third, but at least and at most so many: to measure one costs as
much as the model's head."""
BREAK = b"\xff"
"""Stands for what is no text, such as a special token: no text holds this byte."""


def num_to_measure(num_tokens: int) -> int:
    """How many of a prompt's tokens a member measures."""
    return max(LEAST_MEASURED, min(num_tokens // SHARE_MEASURED, MOST_MEASURED))


@final
@dataclass(frozen=True)
class MeasuredPrompt:
    """A prompt in one member's tokens, and what it gave the last of them."""

    vocabulary: Vocabulary
    ids: tuple[int, ...]
    logprobs: Sequence[float]
    """Natural logs, of the last tokens."""

    @cached_property
    def text(self) -> bytes:
        """What the tokens spell, a template's part of it included."""
        return b"".join(self._pieces)

    @cached_property
    def places(self) -> dict[int, int]:
        """For every end of a token, as bytes of the text, how many measured tokens end up to there."""
        ends = list(accumulate(map(len, self._pieces)))[-len(self.logprobs) - 1 :]
        return {end: place for place, end in enumerate(ends)}

    def give(self, begin: int, end: int) -> float:
        """The log-probability of the bytes between two ends of tokens, after all before them."""
        return sum(self.logprobs[self.places[begin] : self.places[end]])

    @property
    def _pieces(self) -> list[bytes]:
        return [self.vocabulary.tokens[token_id] or BREAK for token_id in self.ids]


def given_words(prompts: Sequence[MeasuredPrompt], contents: Sequence[str]) -> list[GivenWord]:
    """The words of which every member has said how probable it finds them, in order.

    Args:
        prompts: One per member.
        contents: The texts of the prompt; those around which a member has other text, or that it spells otherwise, do
            not count.
    """
    words: list[GivenWord] = []
    begins = [0] * len(prompts)
    for content in contents:
        text = content.strip().encode()
        found = [prompt.text.find(text, begin) for prompt, begin in zip(prompts, begins, strict=True)]
        if not text or min(found) < 0:
            continue
        begins = [begin + len(text) for begin in found]
        words += _words_of(prompts, found, content.strip())
    return words


def _words_of(prompts: Sequence[MeasuredPrompt], begins: Sequence[int], text: str) -> list[GivenWord]:
    """The words of one text, which begins at its own byte of each member's prompt."""
    members = list(zip(prompts, begins, strict=True))
    ends = [end for end in (0, *split_words(text)) if all(begin + end in prompt.places for prompt, begin in members)]
    return [
        GivenWord(right - left, tuple(prompt.give(begin + left, begin + right) for prompt, begin in members))
        for left, right in pairwise(ends)
    ]
