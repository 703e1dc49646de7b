"""Relative fusion: the members' distributions, averaged in the relative space, searched back into the main model's.

One step (arXiv 2404.12715, section 3):

    r = sum_i weight_i p_i R_i          the target: fused relative probs
    p' = the inverse search of r        starting at the main model's p (`inverse.py`)

Two forms compute it. The exact one runs over every token. The candidate form, at a small fraction of the cost, lets
each member speak through its best tokens and searches over the main model's candidates alone. What it leaves out of a
member's distribution, its rest, counts as one more token, whose row is the mean row of that member's tokens. What the
search makes of the main model's rest scales every main-model token that is not a candidate, so these keep their
proportions and no mass is lost. Nothing is left out where a vocabulary is no larger than the number of candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor

from deepen_llm.errors import ConfigError
from deepen_llm.fusion.base import FusionMethod
from deepen_llm.fusion.relative.inverse import gradient_search, mix, multiplicative_search
from deepen_llm.fusion.relative.space import build_relative_matrix, find_own_anchors

LEAST_REST = 1e-10
"""The least probability of a rest, so that its logprob is finite."""


@dataclass(frozen=True, eq=False)
class MemberSpace:
    """What relative fusion needs to know of one member."""

    embeddings: Tensor
    """Input embeddings `(num_rows, hidden)`; only read while the method is built."""
    anchor_ids: Tensor
    """This member's ids of the common tokens that serve as anchors, `(num_anchors,)` int64; position j is the same
    text in every member. End-of-sequence need not be among them: `align_eos` adds it."""
    allowed: Tensor
    """`(num_logits,)` bool: the tokens that may carry mass, that is those with bytes and end-of-sequence."""
    eos_ids: tuple[int, ...] = ()
    """End-of-sequence; all of them allowed."""


@dataclass(frozen=True, eq=False)
class _Member:
    """One member as a step uses it."""

    weight: float
    mask: Tensor  # (num_logits,): 0 where allowed, else -inf; on the member's device
    eos_ids: Tensor  # (num_eos,) int64, on the member's device
    relative: Tensor  # (num_logits + 1, num_anchors), the last row that of the rest; on the main model's device
    main_ids: Tensor  # (num_logits,) int64: the main-model token each token votes for; on the main model's device
    num_spoken: int  # how many of its best tokens it speaks through in the candidate form


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
        self.main_ends, self.align_eos, self.max_candidates = main_ends, align_eos, max_candidates
        self.main, self.device = main, members[main].embeddings.device
        main_anchor_ids = _list_anchors(members[main], align_eos=align_eos).to(self.device)
        self._members = tuple(
            self._prepare(member, weight, main_anchor_ids) for member, weight in zip(members, weights, strict=True)
        )

    def fuse(self, logits: Sequence[Tensor]) -> Tensor:
        """See `FusionMethod.fuse`. Shapes are fixed, and nothing waits for a device but the moves between devices."""
        logprobs = [self._read(member, rows) for member, rows in zip(self._members, logits, strict=True)]
        alone = logprobs[self.main] = logprobs[self.main].to(self.device)
        if self.trust == 0 or self._members[self.main].weight == 1:
            return alone
        found = self._fuse_exactly(logprobs) if self.max_candidates is None else self._fuse_candidates(logprobs)
        if self.trust < 1:
            found = (1 - self.trust) * alone + self.trust * found
        fused = torch.log_softmax(found, dim=-1)
        return self._leave_ends_to_main(alone, fused) if self.main_ends else fused

    @property
    def num_bytes(self) -> int:
        """The relative matrices; the rest is small."""
        return sum(member.relative.nbytes for member in self._members)

    def _prepare(self, member: MemberSpace, weight: float, main_anchor_ids: Tensor) -> _Member:
        device = member.embeddings.device
        anchor_ids = _list_anchors(member, align_eos=self.align_eos).to(device)
        allowed = member.allowed.to(device)
        matrix = build_relative_matrix(member.embeddings, anchor_ids, len(allowed))
        rest = matrix[allowed].mean(dim=0, keepdim=True)
        return _Member(
            weight=weight,
            mask=torch.zeros(len(allowed), device=device).masked_fill_(~allowed, -torch.inf),
            eos_ids=torch.tensor(list(dict.fromkeys(member.eos_ids)), dtype=torch.int64, device=device),
            relative=torch.cat([matrix, rest]).to(self.device),
            main_ids=main_anchor_ids[find_own_anchors(matrix, anchor_ids).to(self.device)],
            num_spoken=min(self.max_candidates or len(allowed), len(allowed)),
        )

    def _read(self, member: _Member, logits: Tensor) -> Tensor:
        """A member's logprobs, float32, where its logits are; end-of-sequence folded where aligned."""
        masked = logits.float() + member.mask.to(logits.device)
        if self.align_eos and len(member.eos_ids) > 1:
            eos_ids = member.eos_ids.to(logits.device)
            together = masked.index_select(1, eos_ids).logsumexp(dim=-1, keepdim=True)
            masked = masked.index_fill_(1, eos_ids, -torch.inf).index_copy_(1, eos_ids[:1], together)
        return torch.log_softmax(masked, dim=-1)

    def _fuse_exactly(self, logprobs: Sequence[Tensor]) -> Tensor:
        """What the search finds over every token: logprobs `(batch, num_logits)`."""
        alone = logprobs[self.main]
        target = torch.zeros((), device=self.device)
        for member, rows in zip(self._members, logprobs, strict=True):
            if member.weight > 0:
                target = target + member.weight * mix(rows.exp().to(self.device), member.relative[:-1])
        return self._search(alone, self._members[self.main].relative[:-1], target)

    def _fuse_candidates(self, logprobs: Sequence[Tensor]) -> Tensor:
        """What the search finds over the candidates: logprobs `(batch, num_logits)`, not normalized."""
        main, alone = self._members[self.main], logprobs[self.main]
        votes = main.weight * alone.exp()
        target = torch.zeros((), device=self.device)
        for i, member in enumerate(self._members):
            if i == self.main or member.weight == 0:
                continue
            best = logprobs[i].topk(member.num_spoken, dim=-1)
            probs, ids = member.weight * best.values.exp().to(self.device), best.indices.to(self.device)
            votes.scatter_add_(1, F.embedding(ids, member.main_ids[:, None]).squeeze(-1), probs)
            rest = (member.weight - probs.sum(dim=-1, keepdim=True)).clamp_min(0)
            spoken = _with_rest(ids, member.relative)
            target = target + F.embedding_bag(
                spoken, member.relative, per_sample_weights=torch.cat([probs, rest], dim=1), mode="sum"
            )
        candidates = votes.topk(main.num_spoken, dim=-1).indices
        start = alone.gather(1, candidates)
        rest = (1 - start.exp().sum(dim=-1, keepdim=True)).clamp_min(LEAST_REST).log()
        start = torch.cat([start, rest], dim=1)
        relative = F.embedding(_with_rest(candidates, main.relative), main.relative)
        found = self._search(start, relative, target + main.weight * mix(start.exp(), relative))
        everywhere = alone + (found[:, -1:] - rest)
        return everywhere.scatter_(1, candidates, found[:, :-1])

    def _search(self, start: Tensor, relative: Tensor, target: Tensor) -> Tensor:
        if self.search == "multiplicative":
            return multiplicative_search(start, relative, target, num_steps=self.num_steps)
        # The rest stands for many tokens, of which AdamW would move each its own way: as one it is held still.
        return gradient_search(
            start,
            relative,
            target,
            num_steps=self.num_steps,
            learning_rate=self.learning_rate,
            num_free=None if self.max_candidates is None else start.shape[-1] - 1,
        )

    def _leave_ends_to_main(self, alone: Tensor, fused: Tensor) -> Tensor:
        """The main model's own logprobs in the rows where its best token is end-of-sequence."""
        eos_ids = self._members[self.main].eos_ids.to(alone.device)
        ends = (alone.argmax(dim=-1, keepdim=True) == eos_ids).any(dim=-1, keepdim=True)
        return torch.where(ends, alone, fused)


def _with_rest(ids: Tensor, relative: Tensor) -> Tensor:
    """Token ids with the rest's behind them, `(batch, num_ids + 1)`."""
    return F.pad(ids, (0, 1), value=len(relative) - 1)


def _list_anchors(member: MemberSpace, *, align_eos: bool) -> Tensor:
    """The member's ids of all anchors `(num_anchors,)`: the common tokens', then end-of-sequence where aligned."""
    return F.pad(member.anchor_ids, (0, 1), value=member.eos_ids[0]) if align_eos else member.anchor_ids


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
