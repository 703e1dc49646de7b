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

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

from deepen_llm.fusion.words import Factors
from deepen_llm.vocabulary.words import Place, TextEnd, goes_on
from deepen_llm.weighting.base import Weights

ROUNDING = 1e-4
"""A share that was borrowed is told from rounding above this one: the main model may give the next token a thousand
times what the member does, and multiplies it."""
BORROWED = 0.5
"""How far what a projection borrowed from the main model speaks against the member: 0 not at all, 1 as if it had given
the word only what is its own."""

LEAST_CREDIT = 0.1
"""What it can speak against a member at most, at one word."""


@final
@dataclass(frozen=True, slots=True)
class Said:
    """A token, and what is known of it."""

    token: bytes
    given: Sequence[float]
    """The probability that each member's projection gave it; NaN for those that were not asked."""
    own: Sequence[float]
    """By its own tokens; NaN where that is not known."""
    begins: Sequence[float]
    """The probability with which each began a new word there; NaN for those that were not asked."""

    def fill(self, given: Mapping[int, float]) -> Said:
        """The same with what some members gave that were not asked then; with NaN for what is not known still."""
        filled = tuple(given.get(member, one) for member, one in enumerate(self.given))
        begins = tuple(1.0 if member in given else one for member, one in enumerate(self.begins))
        return replace(self, given=filled, begins=begins)


@final
class OpenWord:
    """The weights of one sequence, and the word that is open at its end."""

    def __init__(self, weights: Weights, text: str) -> None:
        """Begin behind a text, of whose last word nothing is known."""
        self.weights = weights
        self._end = TextEnd(text)
        self._given = (1.0,) * len(weights.current)
        self._own = self._given
        self._begins: Sequence[float] = self._given
        self._weights_after = weights

    @property
    def place(self) -> Place:
        """Where the text stands."""
        return self._end.place

    def weigh(self, begins: Sequence[float]) -> Factors:
        """The factors of the next token.

        Args:
            begins: The probability that each member begins a new word, which is 1 where no word is open; NaN for a
                member that was not asked and has no say.
        """
        self._begins = begins
        weights = [0.0 if math.isnan(e) else w for w, e in zip(self.weights.current, begins, strict=True)]
        total = sum(map(_times, weights, self._given))
        words = _fill(tuple(map(_times, self._given, begins)), weights)
        self._weights_after = self.weights.after_word(list(map(_times, words, self._credit)))
        ends = sum(map(_times, weights, words)) / total
        sayers = [w if e > 0 else 0.0 for w, e in zip(self._weights_after.current, begins, strict=True)]
        scale = ends / (sum(sayers) or 1.0)
        return Factors(
            tuple(scale * w / e if w > 0 else 0.0 for w, e in zip(sayers, begins, strict=True)),
            tuple(w * g / total for w, g in zip(weights, self._given, strict=True)),
        )

    @property
    def own_shares(self) -> tuple[float, ...]:
        """How much of what each member's projection gave the open word is its own: the rest is the main model's."""
        return tuple(min(share, 1.0) for share in self._own)

    @property
    def _credit(self) -> tuple[float, ...]:
        """How far what each member gave the open word counts as evidence for it."""
        return tuple(max(share**BORROWED, LEAST_CREDIT) for share in self.own_shares)

    def bound(self, member: int) -> float:
        """The most that a member can add to the distribution of the next token.

        Inside the word its share of that, w F / sum_i w_i F_i; behind it, as much of the evidence, which the others may
        have given by as little as their credit, and its weight before the word.
        """
        weights = self.weights.current
        inside = weights[member] * self._given[member] / sum(map(_times, weights, self._given))
        return weights[member] + inside / min(self._credit)

    def copy(self) -> OpenWord:
        """The same, which goes its own way."""
        copied = copy.copy(self)
        copied._end = copy.copy(self._end)
        return copied

    def take(self, token: bytes, given: Sequence[float], own: Sequence[float]) -> None:
        """Go on with a token, of which it is known what each member gave it.

        Args:
            token: Its bytes, at least one.
            given: The probability that each member's projection gave it; NaN for those that were not asked.
            own: The probability that it gave it by its own tokens; NaN where that is not known.
        """
        shares = [o / g if g > 0 and o >= 0 else 1.0 for o, g in zip(own, given, strict=True)]
        if goes_on(token, self.place):
            shares = list(map(_times, self._own, shares))
            given = tuple(map(_times, self._given, given))
        else:
            self.weights = self._weights_after
            given = tuple(0.0 if e == 0 else g / e for g, e in zip(given, self._begins, strict=True))
        self._own = tuple(share if share < 1 - ROUNDING else 1.0 for share in shares)
        self._set_given(_fill(given, self.weights.current))
        self._end.push(token)

    def retell(self, said: Said) -> None:
        """Go on with a token of which all is known: as `weigh` and then `take`."""
        self.weigh(said.begins)
        self.take(said.token, said.given, said.own)

    @property
    def begins(self) -> Sequence[float]:
        """What `weigh` was told last."""
        return self._begins

    def skip(self, token: bytes) -> None:
        """Go on with a token for which the members were not asked: of the word that it is part of nothing is known."""
        self._given = self._own = (1.0,) * len(self._given)
        self._end.push(token)

    def _set_given(self, given: Sequence[float]) -> None:
        """Only the proportions count; where nobody with weight gave anything, nothing is known."""
        most = max((g for g, w in zip(given, self.weights.current, strict=True) if w > 0), default=0.0)
        self._given = tuple(g / most for g in given) if most > 0 else (1.0,) * len(self._given)


def _fill(given: Sequence[float], weights: Sequence[float]) -> tuple[float, ...]:
    """What members gave, with the mean of the others for those that were not asked: that speaks neither way."""
    known = [(g, w) for g, w in zip(given, weights, strict=True) if not math.isnan(g)]
    if len(known) == len(given):
        return tuple(given)
    mean = sum(g * w for g, w in known) / (sum(w for _, w in known) or 1.0)
    return tuple(mean if math.isnan(g) else g for g in given)


def _times(left: float, right: float) -> float:
    return left * right
