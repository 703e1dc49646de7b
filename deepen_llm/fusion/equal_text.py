"""Average over equal token text: a member's probability of a token counts for the main model's with the same bytes.

One step, with t over the main model's tokens and p_i(t) member i's probability of its own token with t's bytes:

    q_i(t) = p_i(t) / sum_s p_i(s)                  what the main model lacks is dropped, the others normalized
    arithmetic:  sum_i weight_i q_i(t)              a member without the token gives 0
    geometric:   prod_i q_i(t) ^ (weight_i / W(t))  over the members with the token, W(t) their weight; normalized

It is what token-level averaging comes to when only equal strings meet. A short token of one member counts as a vote
against the longer tokens that it begins: the baseline for methods that know better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from deepen_llm.config.fusion import FusionConfig
from deepen_llm.errors import VocabularyError
from deepen_llm.fusion.base import FusionMethod, Step, normalize
from deepen_llm.vocabulary.canonical import TokenTexts

if TYPE_CHECKING:
    from deepen_llm.members.base import Member

Mean = Literal["arithmetic", "geometric"]

TINY = 1e-35
"""Keeps logarithms and shares finite where a probability underflows, or no member has a token."""


class EqualTextConfig(FusionConfig):
    """Settings of the average over equal token text."""

    method: Literal["equal_text"] = "equal_text"
    mean: Mean = "arithmetic"
    """The mean of the members' probabilities."""
    min_common_tokens: int = Field(default=64, ge=1)
    """A member that shares fewer tokens than this with the main model is refused."""

    def build(self, members: Sequence[Member], main: int) -> EqualTextFusion:
        """See `FusionConfig.build`.

        Raises:
            VocabularyError: A member shares too few tokens with the main model.
        """
        texts = [TokenTexts.read(member.vocabulary, align_eos=self.align_eos) for member in members]
        _check_common(texts, main, self.min_common_tokens)
        own = texts[main].canonical_ids
        is_canonical = [target == token_id for token_id, target in enumerate(own)]
        ids = [
            torch.tensor(
                [at if kept else -1 for at, kept in zip(texts[main].map_ids(text.ids), is_canonical, strict=True)]
            )
            for text in texts
        ]
        return EqualTextFusion(
            [row.to(member.device) for row, member in zip(ids, members, strict=True)], main, self.mean
        )


@final
class EqualTextFusion(FusionMethod):
    """The mean of the members' distributions over the main model's tokens, matched byte for byte."""

    may_be_empty = True

    def __init__(self, ids_of_main: Sequence[Tensor], main: int, mean: Mean = "arithmetic") -> None:
        """Keep the tables.

        Args:
            ids_of_main: One per member, `(num_main_logits,)` int64, where its logits are: the member's id with the same
                bytes as each token of the main model, -1 where it has none. For the main model itself: each id that
                counts for itself.
            main: Position of the main model.
            mean: Of the probabilities.
        """
        self._ids, self._mean = list(ids_of_main), mean
        home = self._ids[main].device
        self._has_token = torch.stack([ids.to(home) >= 0 for ids in self._ids])
        """Which tokens of the main model each member has, `(num_members, num_main_logits)` bool."""

    @property
    def num_bytes(self) -> int:
        """Memory of the tables."""
        return sum(ids.nbytes for ids in self._ids) + self._has_token.nbytes

    def combine(self, step: Step) -> Tensor:
        """See `FusionMethod.combine`."""
        named = [(step.main, step.probs), *((other.member, other.own) for other in step.others)]
        probs = [self._match(probs, member).to(step.weights.device) for member, probs in named if probs is not None]
        members = [member for member, _ in named]
        shares = step.weights[:, members].T[..., None] * self._has_token[members][:, None]
        if self._mean == "arithmetic":
            return normalize((torch.stack(probs) * shares).sum(dim=0).log_())
        total, matched = shares.sum(dim=0), torch.stack(probs)
        # A member that gives none of these tokens anything rules all of them out.
        logs = matched.clamp_min(TINY).log_().masked_fill_(matched.sum(dim=-1, keepdim=True) == 0, -torch.inf)
        mean = torch.where(shares > 0, logs * (shares / total.clamp_min(TINY)), 0.0).sum(dim=0)
        return normalize(mean.masked_fill_(total == 0, -torch.inf))

    def _match(self, probs: Tensor, member: int) -> Tensor:
        """One member's probs over the main model's tokens, normalized, on its own device; 0 where it has none."""
        ids = self._ids[member]
        matched = probs.index_select(1, ids.clamp_min(0)).masked_fill_(ids < 0, 0.0)
        return matched / matched.sum(dim=-1, keepdim=True).clamp_min_(TINY)


def _check_common(texts: Sequence[TokenTexts], main: int, needed: int) -> None:
    own = texts[main].vocabulary
    for text in (*texts[:main], *texts[main + 1 :]):
        num_common = len(own.ids_by_token.keys() & text.vocabulary.ids_by_token.keys())
        if num_common < needed:
            raise VocabularyError(
                f"every member must share at least {needed} tokens with the main model, {own.name!r}; "
                f"{text.vocabulary.name!r} shares {num_common}: leave it out, or lower "
                "FusionConfig(min_common_tokens=...)"
            )
