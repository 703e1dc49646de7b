"""Weights that follow a prompt as it is read word by word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, final

from deepen_llm.weighting.base import PROMPT_CREDIT, Weights


@final
class ReadWeights(Weights):
    """Weights along a text that nobody writes: a word says as much as one of a prompt, and no more.

    What `Weights.after_prompt` does at once, step by step, but that a word that is mere guessing counts in full.
    """

    def __init__(self, weights: Weights) -> None:
        """Begin with the weights of a request of which nothing was read."""
        self._weights = weights

    @property
    def current(self) -> tuple[float, ...]:
        """What they are after the words read so far."""
        return self._weights.current

    def after_word(self, given: Sequence[float]) -> Self:
        """The weights after a further word."""
        return type(self)(self._weights.after_word([probability**PROMPT_CREDIT for probability in given]))
