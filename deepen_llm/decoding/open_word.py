"""Who counts how much inside a word: each member in proportion to what it gave the word so far.

The ensemble is a mixture over words. Every word is one member's, member i's with weight w_i; the fused probability
of a word that begins with b is sum_i w_i F_i(b), F_i(b) being what member i gave it so far. So what a member says
behind bytes that it found nearly impossible counts for next to nothing. With e_i the probability that member i ends the
word at b, and w' the weights once it has ended,

    v(t) = sum_i w_i F_i(b) q_i(t) / sum_i w_i F_i(b)                             where t goes on with the word
    v(t) = sum_i w'_i q_i(t) / e_i * sum_i w_i F_i(b) e_i / sum_i w_i F_i(b)      where t begins a new one

A projection gives part of a member's mass as the main model shares its own. What it gave the open word so is not the
member's: for that share it goes on as the main model does.

Summed over the words of a text, -log of what the mixture gave each is exactly -log of what it gave the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from deepen_llm.fusion.words import Factors
from deepen_llm.vocabulary.words import Place, TextEnd, goes_on
from deepen_llm.weighting.base import Weights


@final
class OpenWord:
    """The weights of one sequence, and the word that is open at its end."""

    def __init__(self, weights: Weights, text: str) -> None:
        """Begin behind a text, of whose last word nothing is known."""
        self.weights = weights
        self._end = TextEnd(text)
        self._given = (1.0,) * len(weights.current)
        self._own = self._given
        self._ended: Sequence[float] = self._given
        self._weights_after = weights

    @property
    def place(self) -> Place:
        """Where the text stands."""
        return self._end.place

    def weigh(self, ended: Sequence[float]) -> Factors:
        """The factors of the next token.

        Args:
            ended: The probability that each member begins a new word, which is 1 where no word is open.
        """
        self._ended = ended
        weights, given = self.weights.current, self._given
        total = sum(map(_times, weights, given))
        words = tuple(map(_times, given, ended))
        self._weights_after = self.weights.after_word(words)
        share = sum(map(_times, weights, words)) / total
        sayers = [w if e > 0 else 0.0 for w, e in zip(self._weights_after.current, ended, strict=True)]
        scale = share / (sum(sayers) or 1.0)
        return Factors(
            tuple(scale * w / e if w > 0 else 0.0 for w, e in zip(sayers, ended, strict=True)),
            tuple(w * g / total for w, g in zip(weights, given, strict=True)),
        )

    @property
    def own_shares(self) -> tuple[float, ...]:
        """How much of what each member's projection gave the open word is its own: the rest is the main model's."""
        return self._own

    def take(self, token: bytes, given: Sequence[float], own: Sequence[float]) -> None:
        """Go on with a token, of which it is known what each member gave it.

        Args:
            token: Its bytes, at least one.
            given: The probability that each member's projection gave it.
            own: The probability that it gave it by its own tokens; NaN where that is not known.
        """
        shares = [min(o / g, 1.0) if g > 0 and o >= 0 else 1.0 for o, g in zip(own, given, strict=True)]
        if not goes_on(token, self.place):
            self.weights = self._weights_after
            self._own = tuple(shares)
            given = [g / e if e > 0 else 0.0 for g, e in zip(given, self._ended, strict=True)]
        else:
            self._own = tuple(map(_times, self._own, shares))
            given = list(map(_times, self._given, given))
        self._set_given(given)
        self._end.push(token)

    def skip(self, token: bytes) -> None:
        """Go on with a token for which the members were not asked: of the word that it is part of nothing is known."""
        self._given = self._own = (1.0,) * len(self._given)
        self._end.push(token)

    def _set_given(self, given: Sequence[float]) -> None:
        """Only the proportions count; where nobody with weight gave anything, nothing is known."""
        counts = [g for g, w in zip(given, self.weights.current, strict=True) if w > 0]
        most = max(counts, default=0.0)
        self._given = tuple(g / most for g in given) if most > 0 else (1.0,) * len(self._given)


def _times(left: float, right: float) -> float:
    return left * right
