"""UniTE: the union of the members' best tokens ("Determine-Then-Ensemble", arXiv 2410.03777, section 4).

One step, tokens compared as byte strings:

    U      = the top_k most probable texts of every member with weight, less those that the main model cannot begin
    p_i(s) = member i's probability of the token s; where it has none, that of the first token of s as its own
             tokenizer cuts it; 0 where it cannot spell s
    q_i(s) = p_i(s) / sum of p_i over U
    q(s)   = sum_i weight_i q_i(s)              for s in U

The main model answers with s or, where it lacks s, with the first token of s as its tokenizer cuts it; two texts with
the same first token add up there. Every other token gets probability 0: a text may be scored as impossible. Two texts
of U may stand for one token of a member, whose probability then counts for both, as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from deepen_llm.config.fusion import FusionConfig
from deepen_llm.fusion.base import FusionMethod, Step, normalize
from deepen_llm.vocabulary.canonical import TokenTexts

if TYPE_CHECKING:
    from deepen_llm.members.base import Member

TINY = 1e-35
"""Keeps a member's share of the union finite where it gives nothing of it any probability."""


class UnionConfig(FusionConfig):
    """Settings of the union of the members' best tokens."""

    method: Literal["union"] = "union"
    top_k: int = Field(default=10, ge=1)
    """How many of its best tokens each member brings in; no other token can come."""

    def build(self, members: Sequence[Member], main: int) -> UnionFusion:
        """See `FusionConfig.build`: a table of how each member would begin every other's tokens."""
        read = [TokenTexts.read(member.vocabulary, align_eos=self.align_eos) for member in members]
        del main
        numbers = {text: at for at, text in enumerate(dict.fromkeys(t for own in read for t in own.of_id.values()))}
        tables = [
            UnionTables(
                text_of=torch.tensor(own.map_ids(numbers), device=member.device),
                first_id=torch.tensor([own.find_first(text) for text in numbers], device=member.device),
            )
            for own, member in zip(read, members, strict=True)
        ]
        return UnionFusion(tables, self.top_k)


@final
@dataclass(frozen=True, eq=False)
class UnionTables:
    """One member's tokens and the texts of all members, which are numbered; where its logits are."""

    text_of: Tensor
    """`(num_logits,)` int64: the number of each token's text; -1 where it has none that others could have."""
    first_id: Tensor
    """`(num_texts,)` int64: the member's token with that text, or the first of those that spell it; -1 for none."""


@final
class UnionFusion(FusionMethod):
    """The members' probabilities averaged over the union of their best tokens."""

    may_be_empty = True

    def __init__(self, members: Sequence[UnionTables], top_k: int = 10) -> None:
        """Keep the tables, one per member, over the same texts; each brings in its `top_k` best texts."""
        self._members = list(members)
        self._top_k = top_k

    @property
    def num_bytes(self) -> int:
        """Memory of the tables."""
        return sum(member.text_of.nbytes + member.first_id.nbytes for member in self._members)

    def combine(self, step: Step) -> Tensor:
        """See `FusionMethod.combine`; `-inf` is also where a token is not in the union."""
        named = [(step.main, step.probs), *((other.member, other.own) for other in step.others)]
        voters = [(member, probs, step.weight(member)) for member, probs in named if probs is not None]
        best = [self._best_texts(probs, member, weight) for member, probs, weight in voters]
        texts, answers = self._unite(torch.cat(best, dim=1), step.main)
        total = torch.zeros_like(texts, dtype=torch.float32)
        for member, probs, weight in voters:
            total += weight * self._over_union(probs, texts, member).to(total.device)
        return normalize(torch.zeros_like(step.probs).scatter_add_(1, answers, total).log_())

    def _best_texts(self, probs: Tensor, member: int, weight: Tensor) -> Tensor:
        """The numbers of a member's best texts `(batch, top_k)`, -1 for those that may not come, or without weight."""
        best = probs.topk(min(self._top_k, probs.shape[1]), dim=-1)
        texts = self._members[member].text_of[best.indices].masked_fill_(best.values == 0, -1)
        return texts.to(weight.device).masked_fill(weight == 0, -1)

    def _unite(self, texts: Tensor, main: int) -> tuple[Tensor, Tensor]:
        """The texts without repetition, and the main model's tokens for them, both `(batch, n)`.

        What is repeated, and what the main model cannot begin, is text -1 and has token 0.
        """
        texts = texts.sort(dim=-1).values
        answers = self._members[main].first_id[texts.clamp_min(0)]
        is_new = torch.ones_like(texts, dtype=torch.bool)
        is_new[:, 1:] = texts[:, 1:] != texts[:, :-1]
        return texts.masked_fill(~is_new | (answers < 0), -1), answers.clamp_min(0)

    def _over_union(self, probs: Tensor, texts: Tensor, member: int) -> Tensor:
        """A member's probs `(batch, n)` of the texts, normalized over them, on its own device."""
        texts = texts.to(probs.device)
        ids = self._members[member].first_id[texts.clamp_min(0)]
        picked = probs.gather(1, ids.clamp_min(0)).masked_fill_((ids < 0) | (texts < 0), 0.0)
        return picked / picked.sum(dim=-1, keepdim=True).clamp_min_(TINY)
