"""No fusion: the main model speaks alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from deepen_llm.fusion.base import FusionMethod


@final
class MainAlone(FusionMethod):
    """An ensemble of one: the main model's own distribution over the tokens that may come."""

    def __init__(self, main: int, allowed: Tensor) -> None:
        """`allowed` is a mask (num_logits of the main model,) of the tokens that may come."""
        self._main = main
        self._forbidden = ~allowed

    def fuse(self, logits: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
        """Log-softmax of the main model's logits over the allowed tokens, whatever the weights are."""
        del weights
        return self.fuse_main(logits[self._main])

    def fuse_main(self, logits: Tensor) -> Tensor:
        """The same from the main model's logits alone."""
        return logits.float().masked_fill(self._forbidden.to(logits.device), -torch.inf).log_softmax(dim=-1)

    @property
    def num_bytes(self) -> int:
        """The mask of tokens."""
        return self._forbidden.nbytes
