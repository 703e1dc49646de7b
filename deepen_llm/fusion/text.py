"""Fusion without the relative space: the members' readings as text, averaged as they are.

One step, with t over the main model's tokens, p the main model's probs and q_i member i's reading:

    arithmetic:  sum_i weight_i q_i(t)
    geometric:   prod_i q_i(t) ^ weight_i, renormalized

The arithmetic mean is safe; the geometric one gains where readings are exact and loses where they are not, since a
token that one member's reading leaves out is then as good as ruled out. `FLOOR` keeps it from that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor

from deepen_llm.fusion.base import Reading, ReadingMethod
from deepen_llm.fusion.bytewise import BytewiseReader, Verdict
from deepen_llm.fusion.weights import counts, keep_alone, share_out

FLOOR = 1e-6
"""The least probability of a token of a reading under the geometric mean."""


@final
class TextFusion(ReadingMethod):
    """The mean of the members' readings."""

    def __init__(
        self,
        counts_as: Tensor,
        *,
        main: int,
        weights: Sequence[float],
        verdict: Verdict,
        mean: Literal["arithmetic", "geometric"] = "arithmetic",
    ) -> None:
        """Keep the weights.

        Args:
            counts_as: Of the main model: see `BytewiseReader.build`.
            main: Position of the main model.
            weights: One a member, not negative, summing to 1.
            verdict: How far to believe the mean.
            mean: Of the probabilities.
        """
        self._reader = BytewiseReader.build(counts_as)
        self._main, self._weights, self._verdict, self._mean = main, tuple(weights), verdict, mean

    @property
    def num_bytes(self) -> int:
        """Memory of the tables."""
        return self._reader.num_bytes

    def fuse(self, logits: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
        """Refused: logits alone are not read yet.

        Raises:
            TypeError: Always.
        """
        del weights
        raise TypeError(f"{type(self).__name__} takes readings of {len(logits)} members: call fuse_readings")

    def fuse_readings(
        self, logits: Tensor, readings: Sequence[Reading | None], weights: Tensor | None = None
    ) -> Tensor:
        """See `ReadingMethod`. What the main model cannot express counts for its own distribution."""
        alone = self._reader.read(logits)
        shares = share_out(self._weights, weights, alone.device)
        pairs = zip(shares, readings, strict=True)
        others = [(share, reading) for share, reading in pairs if reading is not None and counts(share)]
        if not others:
            return alone
        own, weight = alone.exp(), shares[self._main]
        said = [(share, self._complete(reading, own)) for share, reading in others]
        if self._mean == "arithmetic":
            mean = weight * own
            for share, probs in said:
                mean = mean + share * probs
            return keep_alone(weight, alone, self._verdict.settle(alone, mean.log()))
        logs = weight * alone  # 0 * -inf is no number, and is masked below
        for share, probs in said:
            logs = logs + share * probs.clamp_min(FLOOR).log()
        fused = self._verdict.settle(alone, logs.masked_fill(alone == -torch.inf, -torch.inf))
        return keep_alone(weight, alone, fused)

    def _complete(self, reading: Reading, own: Tensor) -> Tensor:
        """A reading's probs `(batch, num_logits_main)` on the main model's device, made to sum to 1.

        Tokens with the same bytes count as one, as they do in the main model's own.
        """
        probs = reading.probs.to(own.device)
        for sources, targets in self._reader.rounds:
            probs = probs.index_add(1, targets, probs[:, sources]).index_fill(1, sources, 0.0)
        if reading.rest is not None:
            probs = probs + reading.rest.sum(dim=-1, keepdim=True).to(own.device) * own
        return probs if reading.speaks is None else torch.where(reading.speaks.to(own.device)[:, None], probs, own)
