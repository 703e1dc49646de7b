"""The dense form of relative fusion: every row of the relative matrices is kept. For small vocabularies.

The exact search runs over every token. The candidate search costs a small fraction of it:

1. A look at every token: what one step of the multiplicative search would make of the main model's tokens if each
   token of each member lay on its own anchor alone, the one that it is or is most like.
2. The best of these are the candidates. The search runs over their rows, and each other member speaks through its
   best tokens. What this leaves out of a member's distribution, its rest, counts as one more token.
3. A main-model token that is no candidate gets what the look gave it; under the gradient search, which moves every
   logit by little, its own share of what the search made of the rest.

Where a vocabulary is no larger than the number of candidates, nothing is left out. Elsewhere the two searches nearly
always agree on the best token, and where members disagree they differ in the mass of the others: over all tokens, the
multiplicative search explains the flat background of the other members' rows by many tokens that no member proposes;
the candidate search gives those no more than the members themselves do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, final

import torch
import torch.nn.functional as F
from torch import Tensor

from deepen_llm.fusion.relative.buffer import RowBuffer
from deepen_llm.fusion.relative.inverse import LEAST_REST, TINY, InverseSearch, mix
from deepen_llm.fusion.relative.isotropy import CommonPart
from deepen_llm.fusion.relative.member import MemberSpace
from deepen_llm.fusion.relative.space import build_relative_matrix, find_own_anchors

EXACT_ENTRIES = 1 << 18
"""Up to so many entries of the main model's matrix, 1 MiB, the exact search is as quick as one over candidates."""


@final
@dataclass(frozen=True, eq=False)
class DenseMember:
    """A member's tables. `relative` lies on the main model's device, the others on the member's own.

    In `relative`, one row more than the member has tokens stands for its rest: what is left out where only some of
    its tokens are used. It is the mean row of the tokens that may come.
    """

    weight: float
    relative: Tensor
    """Probs `(num_logits + 1, num_anchors)`, float32."""
    own_anchors: Tensor
    """Position of each token's own anchor, the one that it is or is most like: `(num_logits,)` int64."""
    own_shares: Tensor
    """What of each token's row lies on its own anchor: `(num_logits,)`."""

    @classmethod
    def build(cls, space: MemberSpace, weight: float, device: torch.device) -> Self:
        """The tables of one member; `device` is the main model's.

        Raises:
            NumericalError: An embedding holds NaN or infinity.
        """
        home = space.embeddings.device
        allowed, anchor_ids = space.allowed.to(home), space.anchor_ids.to(home)
        common = (
            CommonPart.measure(space.embeddings, space.removed_directions) if space.removed_directions != 0 else None
        )
        matrix = build_relative_matrix(space.embeddings, anchor_ids, len(allowed), common)
        own_anchors = find_own_anchors(matrix, anchor_ids)
        return cls(
            weight=weight,
            relative=torch.cat([matrix, matrix[allowed].mean(dim=0, keepdim=True)]).to(device),
            own_anchors=own_anchors,
            own_shares=matrix.gather(1, own_anchors[:, None]).squeeze(1),
        )

    @property
    def num_bytes(self) -> int:
        """Memory of all tables."""
        return sum(table.nbytes for table in (self.relative, self.own_anchors, self.own_shares))

    def mix_all(self, probs: Tensor) -> Tensor:
        """The weighted relative probs `(batch, num_anchors)` of probs `(batch, num_logits)`.

        Like the two below, it takes the probs where the member's logits are and answers on the main model's device.
        """
        return self.weight * mix(probs.to(self.relative.device), self.relative[:-1])

    def mix_best(self, probs: Tensor, num_tokens: int) -> Tensor:
        """The same from the best tokens and the rest; these alone move between devices."""
        best = probs.topk(min(num_tokens, probs.shape[-1]), dim=-1)
        rest = (1 - best.values.sum(dim=-1, keepdim=True)).clamp_min(0)
        shares = (self.weight * torch.cat([best.values, rest], dim=1)).to(self.relative.device)
        ids = self.with_rest(best.indices.to(self.relative.device))
        return F.embedding_bag(ids, self.relative, per_sample_weights=shares, mode="sum")

    def mix_own(self, probs: Tensor) -> Tensor:
        """What the tokens put on their own anchors, `(batch, num_anchors)`; without the weight."""
        shares = probs * self.own_shares.to(probs.device)
        carried = torch.zeros(len(shares), self.relative.shape[1], device=shares.device)
        return carried.index_add_(1, self.own_anchors.to(shares.device), shares).to(self.relative.device)

    def gather(self, token_ids: Tensor, buffer: RowBuffer) -> Tensor:
        """The rows `(batch, num_ids + 1, num_anchors)` of ids `(batch, num_ids)` and of the rest, in the buffer."""
        return buffer.gather(self.relative, self.with_rest(token_ids))

    def with_rest(self, token_ids: Tensor) -> Tensor:
        """The ids `(batch, num_ids)` with the rest's behind them, `(batch, num_ids + 1)`."""
        return F.pad(token_ids, (0, 1), value=len(self.relative) - 1)


@final
class DenseForm:
    """Finds the main model's distribution with every row of the relative matrices at hand."""

    def __init__(
        self, members: Sequence[DenseMember], main: int, search: InverseSearch, max_candidates: int | None
    ) -> None:
        """`max_candidates` None is the exact search, which a matrix of no more than `EXACT_ENTRIES` always gets."""
        self.members = tuple(members)
        self._main = members[main]
        self._search = search
        self._max_candidates = max_candidates if self._main.relative.numel() > EXACT_ENTRIES else None
        self._buffer = RowBuffer()

    def find(self, alone: Tensor, others: Sequence[tuple[int, Tensor]]) -> Tensor:
        """What the search finds: logprobs `(batch, num_logits)`, not normalized.

        Args:
            alone: The main model's logprobs `(batch, num_logits)`.
            others: Members by position, each with its logprobs `(batch, num_logits_i)` on its own device.
        """
        spoken = [(self.members[index], rows.exp()) for index, rows in others]
        if self._max_candidates is None:
            return self._find_exactly(alone, spoken)
        return self._find_best(alone, spoken, self._max_candidates)

    def _find_exactly(self, alone: Tensor, others: Sequence[tuple[DenseMember, Tensor]]) -> Tensor:
        """What the search finds over every token."""
        target = self._main.mix_all(alone.exp())
        for member, probs in others:
            target = target + member.mix_all(probs)
        return self._search.run(alone, self._main.relative[:-1], target)

    def _find_best(self, alone: Tensor, others: Sequence[tuple[DenseMember, Tensor]], num_spoken: int) -> Tensor:
        """What the search finds over the candidates, and the look over the others."""
        num_candidates = min(num_spoken, alone.shape[-1])
        probs = alone.exp()
        factors = self._look(probs, others)
        looked, candidates = (probs * factors).topk(num_candidates, dim=-1)
        rest = (1 - probs.gather(1, candidates).sum(dim=-1, keepdim=True)).clamp_min(LEAST_REST).log()
        start = torch.cat([alone.gather(1, candidates), rest], dim=1)
        relative = self._main.gather(candidates, self._buffer)
        target = self._main.weight * mix(start.exp(), relative)
        for member, spoken in others:
            target = target + member.mix_best(spoken, num_spoken)
        found = self._search.run(start, relative, target, num_free=num_candidates)
        if self._search.kind == "gradient":
            return (alone + (found[:, -1:] - rest)).scatter_(1, candidates, found[:, :-1])
        # Among themselves as the search has it; together what the look gave them.
        found = found[:, :-1]
        total = found.exp().sum(dim=-1, keepdim=True).clamp_min_(TINY)
        found = found + (looked.sum(dim=-1, keepdim=True) / total).log_()
        return (alone + factors.log_()).scatter_(1, candidates, found)

    def _look(self, probs: Tensor, others: Sequence[tuple[DenseMember, Tensor]]) -> Tensor:
        """By what one step of the multiplicative search would multiply each main-model token, `(batch, num_logits)`.

        With every row cut down to its own anchor, the factor of token w on anchor a is
        `1 + own_share_w * (r_a / q_a - 1)`, where r_a and q_a sum what all members and the main model put on a.
        """
        carried = self._main.mix_own(probs).clamp_min(TINY)
        excess = torch.full_like(carried, self._main.weight - 1)
        for member, spoken in others:
            excess = excess + member.weight * member.mix_own(spoken) / carried
        return 1 + self._main.own_shares * excess.index_select(1, self._main.own_anchors)
