"""A distribution in a few numbers: the most probable tokens, and what is left for all others.

What crosses a network between a member and the engine: the whole vocabulary would take thousands of times as much. What
is left is never dropped: a token that was not told would count as impossible, and rule itself out of the ensemble.
"""

from __future__ import annotations

import math
from typing import Self, final

import torch
from torch import Tensor

NUM_TOLD = 256
"""How many tokens are told, by default: with fewer than 100 answers get measurably worse."""
LEAST_LEFT = 1e-9
"""What is left, at the least, where tokens are not told: rounding may leave nothing, or less."""


@final
class Summary:
    """The most probable tokens of some distributions, and their natural-log probabilities; on the CPU."""

    def __init__(self, ids: Tensor, logprobs: Tensor) -> None:
        """Take them: `ids` `(rows, num)`, int32, and `logprobs` `(rows, num)`, float32."""
        self.ids, self.logprobs = ids, logprobs

    @classmethod
    def of_logits(cls, logits: Tensor, num: int = NUM_TOLD) -> Self:
        """The `num` most probable tokens, or all, of logits `(rows, num_logits)`, computed where those lie."""
        logprobs = logits.float().log_softmax(dim=-1)
        top = logprobs.topk(min(num, logits.shape[-1]), dim=-1, sorted=False)
        return cls(top.indices.to("cpu", torch.int32), top.values.cpu())

    @property
    def nbytes(self) -> int:
        """How much it takes on its way."""
        return self.ids.nbytes + self.logprobs.nbytes

    def spread(self, num_logits: int) -> Tensor:
        """Logprobs `(rows, num_logits)`: what is left is spread evenly over the tokens that were not told.

        NaN among what was told stays, for the guard to find.
        """
        num_others = num_logits - self.ids.shape[-1]
        logprobs = self.logprobs.new_full((len(self.ids), num_logits), -math.inf)
        if num_others > 0:
            left = (1 - self.logprobs.double().exp().sum(dim=-1, keepdim=True)).clamp(min=LEAST_LEFT)
            logprobs[:] = (left / num_others).log()
        return logprobs.scatter(-1, self.ids.long(), self.logprobs)
