"""What every fusion method does: the distributions of one step go in, one over the main model's tokens comes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self, final

import torch
from torch import Tensor


@final
@dataclass(frozen=True, eq=False)
class Distribution:
    """What a member other than the main model gives the next token, for every sequence of a batch.

    `projected` and `own` together sum to 1. One of them is there at least: token by token all is `own`; as text, `own`
    is what the main model's tokens cannot express.
    """

    member: int
    """The member's position."""
    projected: Tensor | None
    """Probs over the main model's tokens `(batch, num_main_logits)`, float32, on the main model's device."""
    own: Tensor | None
    """Probs over the member's own tokens `(batch, num_logits)`, float32, where its logits are."""
    empty_rows: Sequence[int] = ()
    """Rows in which nothing can be said of the member: there the main model gets its weight."""

    def on_rows(self, rows: Sequence[int], num_rows: int) -> Self:
        """The same as these rows of a larger batch, whose others hold nothing."""
        if len(rows) == num_rows:
            return self
        projected, own = (
            None
            if part is None
            else part.new_zeros(num_rows, part.shape[1]).index_copy_(0, torch.tensor(rows, device=part.device), part)
            for part in (self.projected, self.own)
        )
        return replace(self, projected=projected, own=own, empty_rows=tuple(rows[row] for row in self.empty_rows))

    def joined(self, other: Self) -> Self:
        """Both together, where each has rows that the other has not."""
        projected, own = (
            right if left is None else left if right is None else left + right
            for left, right in ((self.projected, other.projected), (self.own, other.own))
        )
        return replace(self, projected=projected, own=own, empty_rows=(*self.empty_rows, *other.empty_rows))


@final
@dataclass(frozen=True, eq=False)
class Distributions:
    """What the members give the next token of a batch, before their weights count."""

    main: int
    """The main model's position."""
    logprobs: Tensor
    """The main model's own `(batch, num_main_logits)`, float32, normalized."""
    probs: Tensor
    """The same as probs."""
    others: Sequence[Distribution]
    """Of the other members that were asked."""
    num_members: int

    def extended(self, others: Sequence[Distribution]) -> Self:
        """With what other members give, or the same ones in other rows."""
        found = {other.member: other for other in self.others}
        for other in others:
            found[other.member] = found[other.member].joined(other) if other.member in found else other
        return replace(self, others=tuple(found.values()))

    def given(self, token_ids: Tensor) -> Tensor:
        """The probs that each member gave tokens of the main model, one per row: `(batch, num_members)`.

        A member counts as the main model where nothing can be said of it, or what it said was not projected; so does
        its mass that the main model's tokens cannot express.
        """
        ids = token_ids[:, None]
        main = self.probs.gather(1, ids)
        given = main.repeat(1, self.num_members)
        for other in self.others:
            if other.projected is not None:
                found = other.projected.gather(1, ids)
                if other.own is not None:
                    found = found.addcmul(other.own.sum(dim=-1, keepdim=True).to(found.device), main)
                given[:, other.member] = found[:, 0]
                if other.empty_rows:
                    given[list(other.empty_rows), other.member] = main[list(other.empty_rows), 0]
        return given


@final
@dataclass(frozen=True, eq=False)
class Step:
    """One step of a batch under its weights, each tensor made once."""

    main: int
    """The main model's position."""
    logprobs: Tensor
    """The main model's `(batch, num_main_logits)`, float32, normalized."""
    probs: Tensor
    """The same as probs."""
    weights: Tensor
    """`(batch, num_members)` float32, rows summing to 1, on the main model's device."""
    others: Sequence[Distribution]
    """Of every other member with weight in some row."""
    is_alone: Tensor | None
    """`(batch, 1)` bool: rows in which the main model has all the weight; None where there is no such row."""

    @classmethod
    def build(cls, given: Distributions, weights: Tensor) -> Self:
        """The step in which members without a say, in all rows or some, are left out.

        Args:
            given: What the members give.
            weights: `(batch, num_members)` float32, rows summing to 1, on the CPU, where who counts is found out.
        """
        weights, main, home = move_silent(given, weights), given.main, given.probs.device
        counts: list[list[bool]] = (weights > 0).tolist()
        is_alone = [[not any(row[:main] + row[main + 1 :])] for row in counts]
        has_weight = [any(column) for column in zip(*counts, strict=True)]
        return cls(
            main,
            given.logprobs,
            given.probs,
            weights.to(home),
            tuple(distribution for distribution in given.others if has_weight[distribution.member]),
            torch.tensor(is_alone, device=home) if [True] in is_alone else None,
        )

    def weight(self, member: int) -> Tensor:
        """One member's weights `(batch, 1)`."""
        return self.weights[:, member, None]


def move_silent(given: Distributions, weights: Tensor) -> Tensor:
    """Weights `(batch, num_members)` with those of members of which nothing can be said given to the main model."""
    if any(distribution.empty_rows for distribution in given.others):
        weights = weights.clone()
    for distribution in given.others:
        for row in distribution.empty_rows:
            weights[row, given.main] += weights[row, distribution.member]
            weights[row, distribution.member] = 0.0
    return weights


class FusionMethod(ABC):
    """The equation of one way to fuse, and nothing else.

    Which tokens may come and which count as one, the weights, how far to trust the result, and rows in which the main
    model is alone are seen to by the `FusionFrame`.
    """

    may_be_empty: ClassVar[bool] = False
    """Whether a row may come out as `-inf` throughout: nothing was fused, and the main model's own counts."""

    @abstractmethod
    def combine(self, step: Step) -> Tensor:
        """The fused next-token distribution, row by row; a row never depends on the other rows of the batch.

        Returns:
            Logprobs `(batch, num_main_logits)`, float32, normalized, on the main model's device; `-inf` where a token
            must never come.
        """

    @property
    def num_bytes(self) -> int:
        """Memory that the method holds beside the models."""
        return 0


def normalize(logprobs: Tensor) -> Tensor:
    """Each row made to sum to 1; a row of `-inf` stays one."""
    total = logprobs.logsumexp(dim=-1, keepdim=True)
    return torch.where(total == -torch.inf, logprobs, logprobs - total)
