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
        main = self._sum(given.probs, self._main, places)
        shares = [main] * given.num_members
        for other in given.others:
            share = torch.zeros_like(main)
            if other.projected is not None:
                share = share + self._sum(other.projected, self._main, places)
            if other.own is not None:
                share = share + self._sum(other.own, other.member, places).to(share.device)
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

        def scale(probs: Tensor, member: int, vocabulary: int) -> Tensor:
            of_begins, of_others = (rows[:, member, None].to(probs.device) for rows in (begins, goes_on))
            rows = self._rows(vocabulary, places, probs.device)
            return probs * torch.addcmul(of_others, of_begins - of_others, rows)

        weights = torch.zeros_like(begins)
        probs, weights[:, given.main] = _normalize(scale(given.probs, given.main, given.main))
        # Without a say it still tells which tokens may come, and stands in for what its tokens cannot express.
        probs = torch.where(weights[:, given.main, None].to(probs.device) > 0, probs, given.probs)
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
        sums = probs @ self._table(vocabulary, probs.device).T
        return sums[torch.arange(len(probs)), torch.tensor(places, device=sums.device)]

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
    """Rows made to sum to 1, and their sums on the CPU; a row of nothing stays one."""
    total = probs.sum(dim=-1, keepdim=True)
    return probs / total.clamp_min(torch.finfo(total.dtype).tiny), total[:, 0].cpu()


def _normalize_parts(other: Distribution) -> tuple[Distribution, Tensor]:
    """The same for both parts of a distribution together."""
    parts = [part for part in (other.projected, other.own) if part is not None]
    total = torch.stack([part.sum(dim=-1, keepdim=True).cpu() for part in parts]).sum(dim=0)
    least = total.clamp_min(torch.finfo(total.dtype).tiny)
    projected, own = (None if part is None else part / least.to(part.device) for part in (other.projected, other.own))
    return replace(other, projected=projected, own=own), total[:, 0]
