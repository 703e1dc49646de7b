"""Relative fusion: the members' distributions, averaged in the relative space, searched back into the main model's.

One step (arXiv 2404.12715, section 3):

    r = sum_i weight_i p_i R_i          the target: fused relative probs
    p' = the inverse search of r        starting at the main model's p (`inverse.py`)

Two forms compute it. The exact one runs over every token. The candidate form costs a small fraction of it:

1. A look at every token: what one step of the multiplicative search would make of the main model's tokens if each
   token of each member lay on its own anchor alone, the one that it is or is most like.
2. The best of these are the candidates. The search runs over their rows, and each other member speaks through its
   best tokens. What this leaves out of a member's distribution, its rest, counts as one more token.
3. A main-model token that is no candidate gets what the look gave it; under the gradient search, which moves every
   logit by little, its own share of what the search made of the rest.

Where a vocabulary is no larger than the number of candidates, nothing is left out. Elsewhere the two forms nearly
always agree on the best token, and differ in the mass of the others: over all tokens, the multiplicative search
explains the flat background of the other members' rows by many tokens that no member proposes; the candidate form
gives those no more than the members themselves do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor

from deepen_llm.errors import ConfigError
from deepen_llm.fusion.base import FusionMethod
from deepen_llm.fusion.relative.inverse import TINY, gradient_search, mix, multiplicative_search
from deepen_llm.fusion.relative.member import MemberSpace, RelativeMember, RowBuffer

__all__ = ["MemberSpace", "RelativeFusion"]

LEAST_REST = 1e-10
"""The least probability of a rest, so that its logprob is finite."""


@final
class RelativeFusion(FusionMethod):
    """DeePEn. The settings are those of `deepen_llm.config.FusionConfig`, where each is explained."""

    def __init__(
        self,
        members: Sequence[MemberSpace],
        *,
        main: int,
        weights: Sequence[float],
        search: Literal["multiplicative", "gradient"],
        num_steps: int,
        learning_rate: float,
        trust: float,
        main_ends: bool,
        align_eos: bool,
        max_candidates: int | None,
    ) -> None:
        """Build every member's relative matrix, on the main model's device: `num_logits * num_anchors` float32 each.

        Args:
            members: One description a member; their embeddings may lie on different devices.
            main: Position of the main model.
            weights: One a member, not negative, summing to 1.
            search: `gradient` is the published one.
            num_steps: Steps of the search.
            learning_rate: Of the gradient search.
            trust: From 0, the main model alone, to 1, what the search found; in logprobs.
            main_ends: Leave a row to the main model where its own best token is end-of-sequence.
            align_eos: Fold each member's end-of-sequence ids into its first, and make that one an anchor.
            max_candidates: How many tokens each member speaks through and the search runs over; None: the exact form.

        Raises:
            ConfigError: The members disagree in their anchors, or `align_eos` finds a member without end-of-sequence.
            NumericalError: An embedding holds NaN or infinity.
        """
        _check_members(members, align_eos=align_eos)
        self.search: Literal["multiplicative", "gradient"] = search
        self.num_steps, self.learning_rate, self.trust = num_steps, learning_rate, trust
        self.main_ends, self.max_candidates = main_ends, max_candidates
        self.device = members[main].embeddings.device
        built = [
            RelativeMember.build(member, weight, align_eos=align_eos, device=self.device)
            for member, weight in zip(members, weights, strict=True)
        ]
        self._members = tuple(built)
        self._main_index, self._main = main, built[main]
        self._buffer = RowBuffer()

    @property
    def num_bytes(self) -> int:
        """The relative matrices and the small tables beside them."""
        return sum(member.num_bytes for member in self._members)

    def fuse(self, logits: Sequence[Tensor]) -> Tensor:
        """See `FusionMethod.fuse`. Shapes are fixed, and nothing waits for a device but the moves between devices."""
        logprobs = [member.read(rows) for member, rows in zip(self._members, logits, strict=True)]
        alone = logprobs[self._main_index].to(self.device)
        others = [
            (member, rows.exp())
            for i, (member, rows) in enumerate(zip(self._members, logprobs, strict=True))
            if i != self._main_index and member.weight > 0
        ]
        if self.trust == 0 or self.num_steps == 0 or not others:
            return alone
        if self.max_candidates is None:
            found = self._fuse_exactly(alone, others)
        else:
            found = self._fuse_best(alone, others, self.max_candidates)
        if self.trust < 1:
            found = (1 - self.trust) * alone + self.trust * found
        fused = torch.log_softmax(found, dim=-1)
        return torch.where(self._main.ends(alone), alone, fused) if self.main_ends else fused

    def _fuse_exactly(self, alone: Tensor, others: Sequence[tuple[RelativeMember, Tensor]]) -> Tensor:
        """What the search finds over every token: logprobs `(batch, num_logits)`."""
        target = self._main.mix_all(alone.exp())
        for member, probs in others:
            target = target + member.mix_all(probs)
        if self.search == "multiplicative":
            return multiplicative_search(alone, self._main.relative[:-1], target, num_steps=self.num_steps)
        return gradient_search(
            alone, self._main.relative[:-1], target, num_steps=self.num_steps, learning_rate=self.learning_rate
        )

    def _fuse_best(self, alone: Tensor, others: Sequence[tuple[RelativeMember, Tensor]], num_spoken: int) -> Tensor:
        """What the search finds over the candidates, and the look over the others: logprobs `(batch, num_logits)`."""
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
        if self.search == "multiplicative":
            found = multiplicative_search(start, relative, target, num_steps=self.num_steps)[:, :-1]
            # Among themselves as the search has it; together what the look gave them.
            total = found.exp().sum(dim=-1, keepdim=True).clamp_min_(TINY)
            found = found + (looked.sum(dim=-1, keepdim=True) / total).log_()
            return (alone + factors.log_()).scatter_(1, candidates, found)
        # The rest stands for many tokens, of which AdamW would move each its own way: as one it is held still.
        found = gradient_search(
            start,
            relative,
            target,
            num_steps=self.num_steps,
            learning_rate=self.learning_rate,
            num_free=num_candidates,
        )
        return (alone + (found[:, -1:] - rest)).scatter_(1, candidates, found[:, :-1])

    def _look(self, probs: Tensor, others: Sequence[tuple[RelativeMember, Tensor]]) -> Tensor:
        """By what one step of the multiplicative search would multiply each main-model token, `(batch, num_logits)`.

        With every row cut down to its own anchor, the factor of token w on anchor a is
        `1 + own_share_w * (r_a / q_a - 1)`, where r_a and q_a sum what all members and the main model put on a.
        """
        carried = self._main.mix_own(probs).clamp_min(TINY)
        excess = torch.full_like(carried, self._main.weight - 1)
        for member, spoken in others:
            excess = excess + member.weight * member.mix_own(spoken) / carried
        return 1 + self._main.own_shares * excess.index_select(1, self._main.own_anchors)


def _check_members(members: Sequence[MemberSpace], *, align_eos: bool) -> None:
    numbers = [len(member.anchor_ids) for member in members]
    if len(set(numbers)) != 1 or numbers[0] == 0:
        raise ConfigError(
            f"every member must name the same anchors, one at least; got {numbers} anchors: "
            "pass anchor_ids of equal length"
        )
    without = [i for i, member in enumerate(members) if not member.eos_ids]
    if align_eos and without:
        raise ConfigError(
            f"align_eos needs an end-of-sequence token in every member; members {without} have none: "
            "set align_eos=False"
        )
