"""What the members' words count: the same at every step, or each row of a batch with weights of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Share = float | Tensor
"""One member's weight: for all rows, or `(batch, 1)` float32, one a row."""


def share_out(given: Sequence[float], weights: Tensor | None, device: torch.device) -> list[Share]:
    """One share a member: those given, or where there are some, each row's own.

    Args:
        given: One a member, for all rows.
        weights: `(batch, num_members)`, not negative, rows summing to 1, on any device; None takes those given.
        device: Where the shares are needed.
    """
    if weights is None:
        return list(given)
    return list(weights.to(device, torch.float32).unsqueeze(-1).unbind(dim=1))


def counts(share: Share) -> bool:
    """Whether a member may have a say in some row."""
    return isinstance(share, Tensor) or share > 0


def keep_alone(main: Share, alone: Tensor, fused: Tensor) -> Tensor:
    """The fused logprobs, and the main model's own in rows where it has all the weight."""
    return torch.where(main == 1, alone, fused) if isinstance(main, Tensor) else fused
