"""Relative fusion: the members' distributions, averaged in the relative space, searched back into the main model's.

One step (arXiv 2404.12715, section 3):

    r = sum_i weight_i p_i R_i          the target: fused relative probs
    p' = the inverse search of r        starting at the main model's p (`inverse.py`)

Two forms compute it. The exact one runs over every token. The candidate form, at a small fraction of the cost, lets
each member speak through its best tokens and searches over the main model's candidates alone. All that it leaves out
of a member's distribution is one more token, whose whole row lies on one more anchor that stands for "left out", the
same in all members; what the search finds for that token scales every main-model token that is not a candidate. So
no mass is lost, and nothing is left out where a vocabulary is no larger than the number of candidates.
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
from deepen_llm.fusion.relative.space import build_relative_matrix

REACH = 2
"""How many main-model tokens a token of another member may make candidates of."""

LEAST_REST = 1e-10
"""The least probability of what the candidate form leaves out, so that its logprob is finite."""


@dataclass(frozen=True, eq=False)
class MemberSpace:
    """What relative fusion needs to know of one member."""

    embeddings: Tensor
    """Input embeddings `(num_rows, hidden)`; only read while the method is built."""
    anchor_ids: Tensor
    """This member's ids of the common tokens that serve as anchors, `(num_anchors,)` int64; end-of-sequence not among
    them. Position j is the same text in every member."""
    allowed: Tensor
    """`(num_logits,)` bool: tokens that may carry mass, that is those with bytes and end-of-sequence."""
    eos_ids: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class _Member:
    """One member as the hot path uses it."""

    weight: float
    mask: Tensor  # (num_logits,): 0 where allowed, else -inf; on whatever device its logits come
    eos_ids: Tensor  # (num_eos,) int64, beside the mask; folded into the first where there are several
    relative: Tensor  # (num_logits + 1, num_anchors + 1) on the main model's device; last row and column: left out
    reach: Tensor  # (num_logits, REACH) int64: main-model tokens that it may make candidates; unused by the main model
    num_spoken: int


@final
class RelativeFusion(FusionMethod):
    """DeePEn. Its settings are those of `deepen_llm.config.FusionConfig`, where each is explained."""

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
        """Build every member's relative matrix on the main model's device; about a second for 6,000 tokens.

        Args:
            members: One description a member; embeddings may lie on different devices.
            main: Position of the main model.
            weights: One a member, not negative, summing to 1.
            search: `gradient` is the published one.
            num_steps: Steps of the search.
            learning_rate: Of the gradient search.
            trust: From 0, the main model alone, to 1, what the search found; in logprobs.
            main_ends: Leave a row to the main model where its own best token is end-of-sequence.
            align_eos: Fold a member's end-of-sequence ids into its first one, which becomes an anchor.
            max_candidates: Size of the candidate form; None for the exact form.

        Raises:
            ConfigError: Members disagree in their anchors, or one has no end-of-sequence to align.
            NumericalError: An embedding holds NaN or infinity.
        """
        _check_members(members, align_eos=align_eos)
        self.search: Literal["multiplicative", "gradient"] = search
        self.num_steps, self.learning_rate, self.trust = num_steps, learning_rate, trust
        self.main_ends, self.align_eos, self.max_candidates = main_ends, align_eos, max_candidates
        self.main, self.weights = main, tuple(weights)
        self.device = members[main].embeddings.device
        anchor_ids = [_anchor_ids(member, align_eos=align_eos).to(self.device) for member in members]
        matrices = [
            build_relative_matrix(member.embeddings, ids, len(member.allowed)).to(self.device)
            for member, ids in zip(members, anchor_ids, strict=True)
        ]
        allowed = members[main].allowed.to(self.device)
        nearest = find_nearest_tokens(matrices[main], anchor_ids[main], allowed)
        self._members = [
            _Member(
                weight=weights[i],
                mask=torch.zeros(member.allowed.shape)
                .masked_fill_(~member.allowed.cpu(), -torch.inf)
                .to(member.embeddings.device),
                eos_ids=torch.tensor(member.eos_ids, dtype=torch.int64, device=member.embeddings.device),
                relative=_with_rest(matrices[i], member.allowed),
                reach=nearest[find_own_anchors(matrices[i], anchor_ids[i])],
                num_spoken=min(max_candidates or len(member.allowed), len(member.allowed)),
            )
            for i, member in enumerate(members)
        ]

    @property
    def num_bytes(self) -> int:
        """The relative matrices and the tables beside them."""
        tables = ((member.relative, member.reach, member.mask) for member in self._members)
        return sum(table.nbytes for member in tables for table in member)

    def fuse(self, logits: Sequence[Tensor]) -> Tensor:
        """See `FusionMethod.fuse`. Fixed shapes and no synchronisation with the device."""
        logprobs = [self._read(member, rows) for member, rows in zip(self._members, logits, strict=True)]
        alone = logprobs[self.main]
        if self.trust == 0 or self._members[self.main].weight == 1:
            return alone
        found = self._fuse_exactly(logprobs) if self.max_candidates is None else self._fuse_candidates(logprobs)
        if self.trust < 1:
            found = (1 - self.trust) * alone + self.trust * found
        fused = torch.log_softmax(found, dim=-1)
        return self._leave_ends_to_main(alone, fused) if self.main_ends else fused

    def _read(self, member: _Member, logits: Tensor) -> Tensor:
        """A member's logprobs, float32, on the device of its logits; end-of-sequence folded where aligned."""
        masked = logits.float() + member.mask
        if self.align_eos and len(member.eos_ids) > 1:
            together = masked[:, member.eos_ids].logsumexp(dim=-1)
            masked[:, member.eos_ids] = -torch.inf
            masked[:, member.eos_ids[0]] = together
        return torch.log_softmax(masked, dim=-1)

    def _fuse_exactly(self, logprobs: Sequence[Tensor]) -> Tensor:
        """What the search finds over every token, logprobs `(batch, num_logits)`."""
        target = sum(
            member.weight * mix(rows.exp().to(self.device), member.relative[:-1])
            for member, rows in zip(self._members, logprobs, strict=True)
            if member.weight > 0
        )
        assert isinstance(target, Tensor)
        return self._search(logprobs[self.main], self._members[self.main].relative[:-1], target)

    def _fuse_candidates(self, logprobs: Sequence[Tensor]) -> Tensor:
        """What the search finds over the candidates, logprobs `(batch, num_logits)`, not normalized."""
        main, alone = self._members[self.main], logprobs[self.main]
        votes = F.pad(main.weight * alone.exp(), (0, 1))
        target = torch.zeros((), device=self.device)
        for i, member in enumerate(self._members):
            if i == self.main or member.weight == 0:
                continue
            best = logprobs[i].topk(member.num_spoken, dim=-1)
            probs, ids = (member.weight * best.values.exp()).to(self.device), best.indices.to(self.device)
            votes.scatter_add_(1, member.reach[ids].flatten(1), probs.repeat_interleave(REACH, dim=1))
            rest = (member.weight - probs.sum(dim=-1, keepdim=True)).clamp_min(0)
            target = target + _mix_spoken(torch.cat([probs, rest], dim=1), ids, member.relative)
        candidates = votes[:, :-1].topk(main.num_spoken, dim=-1).indices
        chosen = alone.gather(1, candidates)
        rest = (1 - chosen.exp().sum(dim=-1, keepdim=True)).clamp_min(LEAST_REST).log()
        start = torch.cat([chosen, rest], dim=1)
        target = target + main.weight * _mix_spoken(start.exp(), candidates, main.relative)
        found = self._search(start, main.relative[F.pad(candidates, (0, 1), value=len(main.relative) - 1)], target)
        everywhere = alone + (found[:, -1:] - rest)
        return everywhere.scatter_(1, candidates, found[:, :-1])

    def _search(self, start: Tensor, relative: Tensor, target: Tensor) -> Tensor:
        if self.search == "gradient":
            return gradient_search(start, relative, target, num_steps=self.num_steps, learning_rate=self.learning_rate)
        return multiplicative_search(start, relative, target, num_steps=self.num_steps)

    def _leave_ends_to_main(self, alone: Tensor, fused: Tensor) -> Tensor:
        """The main model's own logprobs in rows where its best token is one of its end-of-sequence ids."""
        eos_ids = self._members[self.main].eos_ids
        ends = (alone.argmax(dim=-1, keepdim=True) == eos_ids).any(dim=-1, keepdim=True)
        return torch.where(ends, alone, fused)


def find_nearest_tokens(matrix: Tensor, anchor_ids: Tensor, allowed: Tensor) -> Tensor:
    """For every anchor the main-model tokens that can take on its mass: its own first, then those most like it.

    Args:
        matrix: The main model's relative matrix `(num_tokens, num_anchors)`.
        anchor_ids: The anchors' ids in the main model `(num_anchors,)`.
        allowed: `(num_tokens,)` bool; the other tokens are never named.

    Returns:
        Token ids `(num_anchors, REACH)`, int64; `num_tokens` where there is none.
    """
    num_tokens = len(matrix)
    shares = matrix.T.masked_fill(~allowed, 0.0)
    shares[torch.arange(len(anchor_ids), device=shares.device), anchor_ids] = 0.0
    best = shares.topk(min(REACH - 1, num_tokens), dim=-1)
    others = best.indices.masked_fill(best.values == 0, num_tokens)
    return F.pad(torch.cat([anchor_ids[:, None], others], dim=1), (0, REACH - 1 - others.shape[1]), value=num_tokens)


def find_own_anchors(matrix: Tensor, anchor_ids: Tensor) -> Tensor:
    """For every token the anchor that it is, or else the one most like it: positions `(num_tokens,)`, int64."""
    own = matrix.argmax(dim=-1)
    own[anchor_ids] = torch.arange(len(anchor_ids), device=own.device)
    return own


def _mix_spoken(probs: Tensor, ids: Tensor, relative: Tensor) -> Tensor:
    """The relative probs `(batch, num_anchors + 1)` of a few tokens' probs and, last, of what is left out."""
    ids = F.pad(ids, (0, 1), value=len(relative) - 1)
    return F.embedding_bag(ids, relative, per_sample_weights=probs, mode="sum")


def _with_rest(matrix: Tensor, allowed: Tensor) -> Tensor:
    """The matrix with a last row that stands for what is left out: the mean row of the tokens that may come."""
    return torch.cat([matrix, matrix[allowed.to(matrix.device)].mean(dim=0, keepdim=True)])


def _anchor_ids(member: MemberSpace, *, align_eos: bool) -> Tensor:
    if not align_eos:
        return member.anchor_ids
    return F.pad(member.anchor_ids, (0, 1), value=member.eos_ids[0])


def _check_members(members: Sequence[MemberSpace], *, align_eos: bool) -> None:
    numbers = [len(member.anchor_ids) for member in members]
    if len(set(numbers)) != 1 or numbers[0] == 0:
        raise ConfigError(f"every member must name the same anchors, at least one; got {numbers} anchors")
    without = [i for i, member in enumerate(members) if not member.eos_ids]
    if align_eos and without:
        raise ConfigError(
            f"align_eos needs an end-of-sequence token in every member; members {without} have none: "
            "set align_eos=False"
        )
