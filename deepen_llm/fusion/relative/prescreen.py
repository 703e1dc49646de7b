"""The prescreen of every token: one step of the multiplicative search with each row cut down to its own anchor.

A token's own anchor is the one that it is, or else the one most like it. With s_w what token w's row has on it, member
i puts `c_i[a] = sum of p_i(w) s_w` over the tokens w whose own anchor is a. One step of the search from the main
model's p would then multiply a token w on anchor a by

    1 + s_w * (r_a / c_main[a] - 1),     r_a = sum_i weight_i c_i[a].

It costs a few operations a token, and tells which tokens can win and what becomes of all the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from deepen_llm.fusion.relative.inverse import TINY


@final
@dataclass(frozen=True, eq=False)
class OwnAnchors:
    """Where each token of a member stands among the anchors, on the member's device."""

    positions: Tensor
    """Each token's own anchor: `(num_logits,)` int64."""
    shares: Tensor
    """What of each token's row lies on it: `(num_logits,)` float32."""
    num_anchors: int

    @property
    def num_bytes(self) -> int:
        """Memory of both."""
        return self.positions.nbytes + self.shares.nbytes

    def of(self, token_ids: Tensor) -> Tensor:
        """The own anchors of tokens, in their shape."""
        return self.positions.index_select(0, token_ids.flatten()).view(token_ids.shape)

    def sum_up(self, probs: Tensor) -> Tensor:
        """What tokens' probs `(batch, num_logits)` put on their own anchors, `(batch, num_anchors)`."""
        sums = torch.zeros(len(probs), self.num_anchors, device=probs.device)
        return sums.index_add_(1, self.positions.to(probs.device), probs * self.shares.to(probs.device))


def prescreen(main: OwnAnchors, probs: Tensor, weight: Tensor, others: Sequence[Tensor]) -> Tensor:
    """By what the search would multiply each main-model token, `(batch, num_logits)`.

    Args:
        main: The main model's anchors.
        probs: Its probs `(batch, num_logits)`.
        weight: Its weight `(batch, 1)`.
        others: What every other member puts on the own anchors, weighted: `(batch, num_anchors)` on the main model's
        device.
    """
    sums = main.sum_up(probs).clamp_min_(TINY)
    total = sum(others, torch.zeros_like(sums))
    excess = total.div_(sums).add_(weight - 1)
    return excess.index_select(1, main.positions).mul_(main.shares).add_(1)
