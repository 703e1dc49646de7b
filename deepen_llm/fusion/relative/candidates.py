"""Relative fusion over candidates: what the library computes unless every token is asked for.

1. A look at every token (`look.py`): by anchors, and token by token for what was read in the main model's own tokens.
   The best tokens by it are the candidates; the others keep what it gave them.
2. Each other member speaks through its best tokens. What this leaves out of its distribution, its rest, counts as one
   more token, whose row is the mean row of the tokens that may come; so does what the candidates leave out of the
   main model's.
3. The inverse search runs over the rows of the candidates and the rest. Under the multiplicative search the candidates
   share, as it has it, what the look gave them together. Under the gradient search, which moves every logit by
   little, the tokens that are no candidates share what it made of the rest.

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

from deepen_llm.fusion.relative.inverse import LEAST_REST, TINY, InverseSearch, mix
from deepen_llm.fusion.relative.largest import largest
from deepen_llm.fusion.relative.look import OwnAnchors, look
from deepen_llm.fusion.weights import Share


@final
@dataclass(frozen=True, eq=False)
class Columns:
    """The anchors that stand for all at one step."""

    anchors: Tensor
    """Positions of those that matter, sorted, with repetitions: `(batch, num_mattering)` int64."""
    is_new: Tensor
    """False where a position repeats the one before it, same shape."""
    is_rest: Tensor
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
        return type(self)(self.anchors.to(device), self.is_new.to(device), self.is_rest.to(device))


class MemberTables(ABC):
    """What is kept of one member's relative rows, behind which stands the row of its rest."""

    own: OwnAnchors

    @abstractmethod
    def rows(self, token_ids: Tensor, columns: Columns | None) -> Tensor:
        """Probs `(batch, num_tokens + 1, num_columns)` of tokens `(batch, num_tokens)` and the rest, float32.

        Columns None are all anchors. The rows last until the next call.
        """

    def mix(self, probs: Tensor, token_ids: Tensor, columns: Columns | None) -> Tensor:
        """The relative probs `(batch, num_columns)` of tokens and their rest.

        Args:
            probs: Of the tokens and, last, of the rest: `(batch, num_tokens + 1)`.
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
class Voice:
    """What one member says at a step, told in the tokens of some member."""

    tables: MemberTables
    """Of the member whose tokens they are."""
    weight: Share
    """On the main model's device."""
    probs: Tensor
    """`(batch, num_logits)`, on the device of that member's logits. They may sum to less than 1."""

    def carry(self, device: torch.device) -> Tensor:
        """What it puts on the tokens' own anchors, weighted: `(batch, num_anchors)` on the main model's device."""
        return self.weight * self.tables.own.carry(self.probs).to(device)


@final
class CandidateForm:
    """Finds the main model's distribution from the rows of a few tokens."""

    def __init__(
        self,
        members: Sequence[MemberTables],
        main: int,
        search: InverseSearch,
        max_candidates: int,
        sample: Tensor | None = None,
    ) -> None:
        """Take the members' tables.

        Args:
            members: One a member.
            main: Position of the main model.
            search: The inverse search.
            max_candidates: How many candidates, and through how many tokens every other member speaks.
            sample: Anchors that stand for all but the candidates' and the spoken tokens' own, `(num_sampled,)` int64 on
                the main model's device; None sums over all anchors.
        """
        self.members = tuple(members)
        self._sample = sample
        self._main = members[main]
        self._search = search
        self._max_candidates = max_candidates

    def find(self, alone: Tensor, weight: Share, voices: Sequence[Voice]) -> Tensor:
        """What the search finds: logprobs `(batch, num_logits)`.

        Args:
            alone: The main model's logprobs `(batch, num_logits)`.
            weight: The main model's.
            voices: What the others say.
        """
        probs, main = alone.exp(), self._main
        spoken = [largest(voice.probs, self._max_candidates) for voice in voices]
        factors = self._look(probs, weight, voices)
        looked = probs * factors
        best, candidates = largest(looked, self._max_candidates)
        tokens = [(voice.tables, token_ids) for voice, (_, token_ids) in zip(voices, spoken, strict=True)]
        columns = self._choose_columns([(main, candidates), *tokens])
        start = alone.gather(1, candidates)
        rest = (1 - start.exp().sum(dim=-1, keepdim=True)).clamp_min_(LEAST_REST).log_()
        start = torch.cat([start, rest], dim=1)
        rows = main.rows(candidates, columns)
        target = weight * mix(start.exp(), rows)
        if any(voice.tables is main for voice in voices):
            rows = rows.clone()  # a voice in the main model's tokens makes rows, too, in the same memory
        for voice, (shares, token_ids) in zip(voices, spoken, strict=True):
            left = (voice.probs.sum(dim=-1, keepdim=True) - shares.sum(dim=-1, keepdim=True)).clamp_min_(0)
            mixed = voice.tables.mix(torch.cat([shares, left], dim=1), token_ids, columns)
            target = target + voice.weight * mixed.to(target.device)
        found = self._search.run(start, rows, target, num_free=candidates.shape[1], num_anchors=main.own.num_anchors)
        rest_found, found = found[:, -1:], found[:, :-1]
        if self._search.kind == "gradient":
            return (alone + (rest_found - rest)).scatter_(1, candidates, found)
        shared = best.sum(dim=-1, keepdim=True) / found.exp().sum(dim=-1, keepdim=True).clamp_min_(TINY)
        total = looked.sum(dim=-1, keepdim=True).log_()
        return (alone + factors.log_().sub_(total)).scatter_(1, candidates, found + (shared.log_() - total))

    def _look(self, probs: Tensor, weight: Share, voices: Sequence[Voice]) -> Tensor:
        """By what a step of the search would multiply each main-model token, `(batch, num_logits)`.

        What is told in the main model's own tokens needs no anchors to be compared token by token.
        """
        main = self._main
        direct = [voice for voice in voices if voice.tables is main]
        apart = [voice.carry(probs.device) for voice in voices if voice.tables is not main]
        if not direct:
            return look(main.own, probs, weight, apart)
        said = sum((voice.weight * voice.probs for voice in direct), torch.zeros_like(probs))
        counted = said.sum(dim=-1, keepdim=True)
        ratios = said.div_(probs.clamp_min(TINY)).sub_(counted)
        return ratios.add_(look(main.own, probs, weight + counted, apart) if apart else 1)

    def _choose_columns(self, tokens: Sequence[tuple[MemberTables, Tensor]]) -> Columns | None:
        """The own anchors of each member's tokens `(batch, num)`, and the sample."""
        if self._sample is None:
            return None
        home = self._sample.device
        return Columns.choose(torch.cat([member.own.of(ids).to(home) for member, ids in tokens], dim=1), self._sample)
