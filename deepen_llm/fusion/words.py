"""What the members give the words of a text, and their weights word by word.

Inside a word, tokens that go on with it and tokens that begin a new one have weights of their own (see
`decoding/open_word.py`). A fusion method knows nothing of that: it gets distributions in which these weights are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from deepen_llm.fusion.base import Distribution, Distributions, Step, move_silent
from deepen_llm.vocabulary import Vocabulary
from deepen_llm.vocabulary.words import Place, find_beginnings

TINY = torch.finfo(torch.float32).tiny
"""What a sum of nothing is divided by."""


@final
@dataclass(frozen=True, slots=True)
class Factors:
    """By what each member's probabilities are multiplied at one step, one number per member.

    What all of them come to sums to 1.
    """

    begins: tuple[float, ...]
    """Those of tokens that begin a new word."""
    goes_on: tuple[float, ...]
    """Those of tokens that go on with the open one."""


@final
class WordWeigher:
    """Weighs distributions that are projected onto the main model's tokens."""

    def __init__(self, vocabularies: Sequence[Vocabulary], main: int) -> None:
        """Read which tokens begin a word: `vocabularies` are the members'."""
        self._main = main
        self._beginnings = [find_beginnings(vocabulary) for vocabulary in vocabularies]

    def complete(self, given: Distributions, own_shares: Sequence[Sequence[float]]) -> Distributions:
        """The distributions with only a share of each member's own, row by row: the rest is the main model's."""
        if all(share == 1.0 for row in own_shares for share in row):
            return given
        shares = torch.tensor(own_shares, dtype=torch.float32)
        return replace(given, others=[_complete(other, given.probs, shares) for other in given.others])

    def share_of_beginnings(self, given: Distributions, places: Sequence[Place]) -> list[list[float]]:
        """The probability that each member begins a new word, row by row."""
        if all(place == Place.BETWEEN for place in places):
            return [[1.0] * given.num_members for _ in places]
        main = self._sum(given.probs, self._main, places)
        shares = [main] * given.num_members
        for other in given.others:
            parts = ((other.projected, self._main), (other.own, other.member))
            sums = [self._sum(probs, vocabulary, places) for probs, vocabulary in parts if probs is not None]
            share = sum((part.to(main.device) for part in sums[1:]), sums[0].to(main.device))
            if other.empty_rows:
                share[list(other.empty_rows)] = main[list(other.empty_rows)]
            shares[other.member] = share
        found: list[list[float]] = torch.stack(shares, dim=1).clamp_max_(1.0).tolist()
        return [[1.0] * len(row) if place == Place.BETWEEN else row for row, place in zip(found, places, strict=True)]

    def weigh(self, given: Distributions, places: Sequence[Place], factors: Sequence[Factors]) -> Step:
        """The step in which the members' probabilities are multiplied by the factors of each row."""
        begins, goes_on = (
            move_silent(given, torch.tensor(rows, dtype=torch.float32))
            for rows in ([one.begins for one in factors], [one.goes_on for one in factors])
        )
        if all(place == Place.BETWEEN for place in places):
            return Step.build(given, begins)

        spread = begins - goes_on

        def scale(probs: Tensor, member: int, vocabulary: int) -> Tensor:
            of_others, more = (rows[:, member : member + 1].to(probs.device) for rows in (goes_on, spread))
            return torch.addcmul(of_others, more, self._rows(vocabulary, places, probs.device)).mul_(probs)

        weights = torch.zeros_like(begins)
        probs, weights[:, given.main] = _normalize(scale(given.probs, given.main, given.main))
        if not bool((has_say := weights[:, given.main, None] > 0).all()):
            # Without a say it still tells which tokens may come, and stands in for what its tokens cannot express.
            probs = torch.where(has_say.to(probs.device), probs, given.probs)
        others: list[Distribution] = []
        for other in given.others:
            projected = None if other.projected is None else scale(other.projected, other.member, given.main)
            own = None if other.own is None else scale(other.own, other.member, other.member)
            other, weights[:, other.member] = _normalize_parts(replace(other, projected=projected, own=own))
            others.append(other)
        weighed = Distributions(given.main, probs.log(), probs, others, given.num_members)
        return Step.build(weighed, weights)

    def _sum(self, probs: Tensor, vocabulary: int, places: Sequence[Place]) -> Tensor:
        """What probs `(batch, num_logits)` put on tokens that begin a word, `(batch,)`."""
        table = self._table(vocabulary, probs.device)
        if all(place == places[0] for place in places):
            return probs @ table[places[0]]
        return (probs @ table.T).gather(1, torch.tensor(places, device=probs.device)[:, None])[:, 0]

    def _rows(self, vocabulary: int, places: Sequence[Place], device: torch.device) -> Tensor:
        """Which tokens begin a word, row by row: `(batch, num_logits)`."""
        table = self._table(vocabulary, device)
        if all(place == places[0] for place in places):
            return table[places[0], None]
        return table[torch.tensor(places, device=device)]

    def _table(self, vocabulary: int, device: torch.device) -> Tensor:
        """The table of one member's vocabulary, kept where it was used last."""
        table = self._beginnings[vocabulary]
        if table.device != device:
            table = self._beginnings[vocabulary] = table.to(device)
        return table


def _complete(other: Distribution, probs: Tensor, shares: Tensor) -> Distribution:
    """A distribution with the main model's probs in place of a part of it."""
    own_share = shares[:, other.member, None].to(probs.device)
    projected = probs * (1 - own_share) if other.projected is None else probs.lerp(other.projected, own_share)
    own = None if other.own is None else other.own * own_share.to(other.own.device)
    return replace(other, projected=projected, own=own)


def _normalize(probs: Tensor) -> tuple[Tensor, Tensor]:
    """Rows made to sum to 1, which changes them, and their sums on the CPU; a row of nothing stays one."""
    total = probs.sum(dim=-1, keepdim=True)
    return probs.div_(total.clamp_min(TINY)), total[:, 0].cpu()


def _normalize_parts(other: Distribution) -> tuple[Distribution, Tensor]:
    """The same for both parts of a distribution together."""
    if other.own is None and other.projected is not None:
        projected, total = _normalize(other.projected)
        return replace(other, projected=projected), total
    parts = [part for part in (other.projected, other.own) if part is not None]
    total = torch.stack([part.sum(dim=-1, keepdim=True).cpu() for part in parts]).sum(dim=0)
    least = total.clamp_min(TINY)
    for part in parts:
        part.div_(least.to(part.device))
    return other, total[:, 0]
