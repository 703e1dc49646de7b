"""Relative fusion over candidates: what the library computes unless every token is asked for.

1. A prescreen of every token (`prescreen.py`): by anchors, and token by token for what was projected onto the main
   model's own tokens. The best tokens by it are the candidates; the others keep what it gave them.
2. Each other member contributes its best tokens. What these leave out of its distribution, the residual, counts as one
   more token, whose row is the mean row of the tokens that may come; so does what the candidates leave out of the
   main model's.
3. The inverse search runs over the rows of the candidates and the residual. Under the multiplicative search the
candidates
   share, as it has it, what the prescreen gave them together. Under the gradient search, which moves every logit by
   little, the tokens that are no candidates share what it made of the residual.

Searching over every token costs far more and is worse: the multiplicative search then explains the flat background of
the other members' rows by many tokens that no member proposes. `docs/method.md` has the figures.

How the rows are held is left to the tables: whole (`dense.py`), or made when a step needs them (`sampled.py`). Shapes
do not depend on the values, so that a step can be captured in a CUDA graph. Each member's part is computed on its own
device; what travels are token ids, anchor positions and relative probs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor

from deepen_llm.fusion.base import Step
from deepen_llm.fusion.relative.inverse import LEAST_RESIDUAL, TINY, InverseSearch, mix
from deepen_llm.fusion.relative.largest import largest
from deepen_llm.fusion.relative.prescreen import OwnAnchors, prescreen


@final
@dataclass(frozen=True, eq=False)
class Columns:
    """The anchors that stand for all at one step."""

    anchors: Tensor
    """Positions of those that matter, sorted, with repetitions: `(batch, num_mattering)` int64."""
    is_new: Tensor
    """False where a position repeats the one before it, same shape."""
    is_sampled: Tensor
    """Which sampled anchors are not among them: `(batch, num_sampled)` bool."""

    @classmethod
    def choose(cls, anchors: Tensor, sample: Tensor) -> Self:
        """The columns for anchors `(batch, num)`, which may repeat."""
        anchors = anchors.sort(dim=-1).values
        place = torch.searchsorted(anchors, sample.expand(len(anchors), -1).contiguous())
        found = anchors.gather(1, place.clamp_max(anchors.shape[1] - 1))
        is_first = torch.ones_like(anchors[:, :1], dtype=torch.bool)
        is_new = torch.cat([is_first, anchors[:, 1:] != anchors[:, :-1]], dim=1)
        return cls(anchors, is_new, found != sample)

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return type(self)(self.anchors.to(device), self.is_new.to(device), self.is_sampled.to(device))


class MemberTables(ABC):
    """What is kept of one member's relative rows, and after them the row of its residual."""

    own: OwnAnchors

    @abstractmethod
    def rows(self, token_ids: Tensor, columns: Columns | None) -> Tensor:
        """Probs `(batch, num_tokens + 1, num_columns)` of tokens `(batch, num_tokens)` and the residual, float32.

        Columns None are all anchors. The rows last until the next call.
        """

    def mix(self, probs: Tensor, token_ids: Tensor, columns: Columns | None) -> Tensor:
        """The relative probs `(batch, num_columns)` of tokens and their residual.

        Args:
            probs: Of the tokens and, last, of the residual: `(batch, num_tokens + 1)`.
            token_ids: `(batch, num_tokens)`.
            columns: Over which anchors; None over all.
        """
        return mix(probs, self.rows(token_ids, columns))

    @property
    @abstractmethod
    def num_bytes(self) -> int:
        """Memory of the tables."""


@final
@dataclass(frozen=True, eq=False)
class Contribution:
    """What one member contributes at a step, as probs over the tokens of some member."""

    tables: MemberTables
    """Of the member whose tokens they are."""
    weight: Tensor
    """`(batch, 1)`, on the main model's device."""
    probs: Tensor
    """`(batch, num_logits)`, on the device of that member's logits. They may sum to less than 1."""

    def sum_up(self, device: torch.device) -> Tensor:
        """What it puts on the tokens' own anchors, weighted: `(batch, num_anchors)` on the main model's device."""
        return self.weight * self.tables.own.sum_up(self.probs).to(device)


class Search(ABC):
    """Finds the main model's distribution whose relative probs are those of all members together."""

    members: tuple[MemberTables, ...]

    @abstractmethod
    def find(self, step: Step, contributions: Sequence[Contribution]) -> Tensor:
        """What the search finds: logprobs `(batch, num_main_logits)`, from what the other members contribute."""


@final
class CandidateSearch(Search):
    """Searches over the rows of a few tokens."""

    def __init__(
        self,
        members: Sequence[MemberTables],
        main: int,
        inverse: InverseSearch,
        max_candidates: int,
        sample: Tensor | None = None,
    ) -> None:
        """Take the members' tables.

        Args:
            members: One per member.
            main: Position of the main model.
            inverse: The inverse search.
            max_candidates: How many candidates, and how many tokens every other member contributes.
            sample: Anchors that stand for all but the own anchors of the candidates and the contributed tokens,
                `(num_sampled,)` int64 on the main model's device; None sums over all anchors.
        """
        self.members = tuple(members)
        self._sample = sample
        self._main = members[main]
        self._inverse = inverse
        self._max_candidates = max_candidates

    def find(self, step: Step, contributions: Sequence[Contribution]) -> Tensor:
        """See `Search.find`."""
        if self._inverse.num_steps == 0:
            return step.logprobs
        main, logprobs, weight = self._main, step.logprobs, step.weight(step.main)
        proposed = [largest(given.probs, self._max_candidates) for given in contributions]
        factors = self._prescreen(step.probs, weight, contributions)
        screened = step.probs * factors
        best, candidates = largest(screened, self._max_candidates)
        tokens = [(given.tables, token_ids) for given, (_, token_ids) in zip(contributions, proposed, strict=True)]
        columns = self._choose_columns([(main, candidates), *tokens])
        start = logprobs.gather(1, candidates)
        residual = _sum_without(step.probs, candidates).clamp_min_(LEAST_RESIDUAL).log_()
        start = torch.cat([start, residual], dim=1)
        rows = main.rows(candidates, columns)
        target = weight * mix(start.exp(), rows)
        if any(given.tables is main for given in contributions):
            rows = rows.clone()  # what is contributed in the main model's tokens makes rows, too, in the same memory
        for given, (shares, token_ids) in zip(contributions, proposed, strict=True):
            left = _sum_without(given.probs, token_ids)
            mixed = given.tables.mix(torch.cat([shares, left], dim=1), token_ids, columns)
            target = target + given.weight * mixed.to(target.device)
        found = self._inverse.run(start, rows, target, num_free=candidates.shape[1], num_anchors=main.own.num_anchors)
        residual_found, found = found[:, -1:], found[:, :-1]
        if self._inverse.kind == "gradient":
            return (logprobs + (residual_found - residual)).scatter_(1, candidates, found)
        shared = best.sum(dim=-1, keepdim=True) / found.exp().sum(dim=-1, keepdim=True).clamp_min_(TINY)
        total = screened.sum(dim=-1, keepdim=True).log_()
        return (logprobs + factors.log_().sub_(total)).scatter_(1, candidates, found + (shared.log_() - total))

    def _prescreen(self, probs: Tensor, weight: Tensor, contributions: Sequence[Contribution]) -> Tensor:
        """By what a step of the search would multiply each main-model token, `(batch, num_main_logits)`.

        What is given in the main model's own tokens needs no anchors to be compared token by token.
        """
        main = self._main
        direct = [given for given in contributions if given.tables is main]
        apart = [given.sum_up(probs.device) for given in contributions if given.tables is not main]
        if not direct:
            return prescreen(main.own, probs, weight, apart)
        together = direct[0].weight * direct[0].probs
        for given in direct[1:]:
            together = together.addcmul_(given.weight, given.probs)
        mass = together.sum(dim=-1, keepdim=True)
        ratios = together.div_(probs.clamp_min(TINY)).sub_(mass)
        return ratios.add_(prescreen(main.own, probs, weight + mass, apart) if apart else 1)

    def _choose_columns(self, tokens: Sequence[tuple[MemberTables, Tensor]]) -> Columns | None:
        """The own anchors of each member's tokens `(batch, num)`, and the sample."""
        if self._sample is None:
            return None
        home = self._sample.device
        return Columns.choose(torch.cat([member.own.of(ids).to(home) for member, ids in tokens], dim=1), self._sample)


def _sum_without(probs: Tensor, token_ids: Tensor) -> Tensor:
    """The sum of probs `(batch, num_logits)` but for some tokens `(batch, num_tokens)`: `(batch, 1)`.

    A difference of two sums would be nothing but their rounding where little is left, and the search multiplies that.
    """
    return probs.scatter(1, token_ids, 0.0).sum(dim=-1, keepdim=True)
