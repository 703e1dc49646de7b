"""Average over equal token text: a member's probability of a token counts for the main model's with the same bytes.

One step, with t over the main model's tokens and p_i(t) member i's probability of its own token with t's bytes:

    q_i(t) = p_i(t) / sum_s p_i(s)                  what the main model lacks is dropped, the rest renormalized
    arithmetic:  sum_i weight_i q_i(t)              a member without the token says 0
    geometric:   prod_i q_i(t) ^ (weight_i / W(t))  over the members with the token, W(t) their weight; renormalized

It is what token-level averaging comes to when only equal strings meet. A short token of one member counts as a vote
against the longer tokens that it begins: the baseline for methods that know better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor

from deepen_llm.fusion.base import FusionMethod
from deepen_llm.fusion.bytewise import BytewiseReader, Verdict, renormalize, select
from deepen_llm.fusion.weights import keep_alone

TINY = 1e-35
"""Keeps shares finite where no member has a token."""


@final
class EqualTextFusion(FusionMethod):
    """The mean of the members' distributions over the main model's tokens, matched byte for byte."""

    def __init__(
        self,
        counts_as: Sequence[Tensor],
        ids_of_main: Sequence[Tensor],
        *,
        main: int,
        weights: Sequence[float],
        verdict: Verdict,
        mean: Literal["arithmetic", "geometric"] = "arithmetic",
    ) -> None:
        """Keep the tables; a member's lie on the device of its logits.

        Args:
            counts_as: One a member: see `BytewiseReader.build`.
            ids_of_main: One a member, `(num_logits_main,)` int64: the member's id with the same bytes as each token of
                the main model, -1 where it has none. For the main model itself: each id that counts for itself.
            main: Position of the main model.
            weights: One a member, not negative, summing to 1.
            verdict: How far to believe the mean.
            mean: Of the probabilities.
        """
        self._readers = [BytewiseReader.build(ids) for ids in counts_as]
        self._ids = list(ids_of_main)
        self._main, self._verdict, self._mean = main, verdict, mean
        self._voters = [index for index, weight in enumerate(weights) if weight > 0]
        home = self._ids[main].device
        self._held = torch.stack([ids.to(home) >= 0 for ids in self._ids])
        """Which tokens of the main model each member has, `(num_members, num_logits_main)` bool."""
        self._shares = self._weigh(torch.tensor([list(weights)]))[self._voters]
        """What each member's word counts, `(num_voters, 1, num_logits_main)`."""

    @property
    def num_bytes(self) -> int:
        """Memory of the tables."""
        return (
            sum(ids.nbytes for ids in self._ids)
            + self._shares.nbytes
            + self._held.nbytes
            + sum(reader.num_bytes for reader in self._readers)
        )

    def fuse(self, logits: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
        """See `FusionMethod.fuse`."""
        alone = self._readers[self._main].read(logits[self._main])
        if weights is None:
            return alone if self._voters == [self._main] else self._average(alone, logits, self._voters, self._shares)
        fused = self._average(alone, logits, range(len(logits)), self._weigh(weights))
        return keep_alone(weights[:, self._main, None].to(alone.device), alone, fused)

    def _weigh(self, weights: Tensor) -> Tensor:
        """What each word counts, `(num_members, batch, num_logits_main)`, under weights `(batch, num_members)`."""
        shares = weights.to(self._held.device, torch.float32).T[..., None] * self._held[:, None]
        return shares if self._mean == "arithmetic" else shares / shares.sum(dim=0).clamp_min(TINY)

    def _average(self, alone: Tensor, logits: Sequence[Tensor], voters: Sequence[int], shares: Tensor) -> Tensor:
        """The mean of what the voters say, each with its shares `(num_voters, batch or 1, num_logits_main)`."""
        said = torch.stack([self._heard(logits[index], index).to(alone.device) for index in voters])
        if self._mean == "arithmetic":
            return self._verdict.settle(alone, (said + shares.log()).logsumexp(dim=0))
        # 0 * -inf is no number: a member without the token must not speak at all.
        weighted = torch.where(shares > 0, shares * said, 0.0).sum(dim=0)
        return self._verdict.settle(alone, weighted.masked_fill(~(shares > 0).any(dim=0), -torch.inf))

    def _heard(self, logits: Tensor, index: int) -> Tensor:
        """One member's logprobs over the main model's tokens, on its own device."""
        return renormalize(select(self._readers[index].read(logits), self._ids[index]))
