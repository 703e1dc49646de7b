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
from typing import final

import torch
from torch import Tensor

from deepen_llm.fusion.base import FusionMethod
from deepen_llm.fusion.bytewise import BytewiseReader, Verdict, renormalize, select
from deepen_llm.fusion.weights import Share, counts, keep_alone, share_out


@final
@dataclass(frozen=True, eq=False)
class UnionTables:
    """One member's tokens and the texts of all members, which are numbered."""

    counts_as: Tensor
    """`(num_logits,)` int64: see `BytewiseReader.build`."""
    text_of: Tensor
    """`(num_logits,)` int64: the number of each token's text; -1 where it has none that others could say."""
    first_id: Tensor
    """`(num_texts,)` int64: the member's token with that text, or the first of those that spell it; -1 for none."""


@final
class UnionFusion(FusionMethod):
    """The members' probabilities averaged over the union of their best tokens."""

    def __init__(
        self,
        members: Sequence[UnionTables],
        *,
        main: int,
        weights: Sequence[float],
        verdict: Verdict,
        top_k: int = 10,
    ) -> None:
        """Keep the tables; a member's lie on the device of its logits.

        Args:
            members: One a member, over the same texts.
            main: Position of the main model.
            weights: One a member, not negative, summing to 1.
            verdict: How far to believe the average.
            top_k: How many of its best texts each member brings in.
        """
        self._members = list(members)
        self._readers = [BytewiseReader.build(member.counts_as) for member in members]
        self._main, self._verdict, self._top_k = main, verdict, top_k
        self._weights = tuple(weights)

    @property
    def num_bytes(self) -> int:
        """Memory of the tables."""
        tables = sum(member.text_of.nbytes + member.first_id.nbytes for member in self._members)
        return tables + sum(reader.num_bytes for reader in self._readers)

    def fuse(self, logits: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
        """See `FusionMethod.fuse`; `-inf` is also where a token is not in the union."""
        alone = self._readers[self._main].read(logits[self._main])
        shares = share_out(self._weights, weights, alone.device)
        voters = [(index, share) for index, share in enumerate(shares) if counts(share)]
        if [index for index, _ in voters] == [self._main]:
            return alone
        read = {index: self._readers[index].read(logits[index]) for index, _ in voters}
        best = [_heard(self._best_texts(read[index], index).to(alone.device), share) for index, share in voters]
        texts, answers = self._unite(torch.cat(best, dim=1))
        total = torch.zeros_like(texts, dtype=alone.dtype)
        for index, share in voters:
            total += share * self._over_union(read[index], texts, index).exp().to(alone.device)
        fused = torch.zeros_like(alone).scatter_add_(1, answers, total)
        return keep_alone(shares[self._main], alone, self._verdict.settle(alone, fused.log()))

    def _best_texts(self, logprobs: Tensor, index: int) -> Tensor:
        """The numbers of a member's best texts `(batch, top_k)`, -1 for those that may not come."""
        best = logprobs.topk(min(self._top_k, logprobs.shape[1]), dim=-1)
        texts = self._members[index].text_of[best.indices]
        return texts.masked_fill(best.values == -torch.inf, -1)

    def _unite(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """The texts without repetition, and the main model's tokens for them, both `(batch, n)`.

        What is repeated, and what the main model cannot begin, is text -1 and has token 0.
        """
        texts = texts.sort(dim=-1).values
        answers = self._members[self._main].first_id[texts.clamp_min(0)]
        is_new = torch.ones_like(texts, dtype=torch.bool)
        is_new[:, 1:] = texts[:, 1:] != texts[:, :-1]
        return texts.masked_fill(~is_new | (answers < 0), -1), answers.clamp_min(0)

    def _over_union(self, logprobs: Tensor, texts: Tensor, index: int) -> Tensor:
        """A member's logprobs `(batch, n)` of the texts, renormalized over them, on its own device."""
        texts = texts.to(logprobs.device)
        ids = self._members[index].first_id[texts.clamp_min(0)]
        return renormalize(select(logprobs, ids.masked_fill(texts < 0, -1)))


def _heard(texts: Tensor, share: Share) -> Tensor:
    """A member's best texts `(batch, top_k)`, -1 in rows where it has no weight."""
    return texts.masked_fill(share == 0, -1) if isinstance(share, Tensor) else texts
