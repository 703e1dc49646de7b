"""One member as relative fusion sees it: what it is described by, and how its logits are read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self, final

import torch
import torch.nn.functional as F
from torch import Tensor


@final
@dataclass(frozen=True, eq=False)
class MemberSpace:
    """What relative fusion needs to know of one member."""

    embeddings: Tensor
    """Input embeddings `(num_rows, hidden)`, the model's own and not a copy."""
    anchor_ids: Tensor
    """This member's ids of the common tokens that serve as anchors, `(num_anchors,)` int64; position j is the same
    text in every member. End-of-sequence need not be among them: `align_eos` adds it."""
    allowed: Tensor
    """`(num_logits,)` bool: the tokens that may carry mass, that is those with bytes and end-of-sequence."""
    eos_ids: tuple[int, ...] = ()
    """End-of-sequence; all of them allowed."""
    removed_directions: int | None = 0
    """How many strong directions to remove from the embeddings, and their mean: see `CommonPart.measure`."""

    def with_eos_anchor(self) -> Self:
        """The same with the first end-of-sequence as one more anchor."""
        return replace(self, anchor_ids=F.pad(self.anchor_ids, (0, 1), value=self.eos_ids[0]))


@final
@dataclass(frozen=True, eq=False)
class MemberReader:
    """Turns a member's logits into logprobs over the tokens that may come."""

    weight: float
    mask: Tensor
    """0 where a token may come, else `-inf`: `(num_logits,)`, on the member's device."""
    eos_ids: Tensor
    """`(num_eos,)` int64, without repetition."""
    folds_eos: bool
    """Whether all of them count as the first."""

    @classmethod
    def build(cls, space: MemberSpace, weight: float, *, align_eos: bool) -> Self:
        """The reader of one member."""
        home = space.embeddings.device
        eos_ids = list(dict.fromkeys(space.eos_ids))
        return cls(
            weight=weight,
            mask=torch.zeros(len(space.allowed), device=home).masked_fill_(~space.allowed.to(home), -torch.inf),
            eos_ids=torch.tensor(eos_ids, dtype=torch.int64, device=home),
            folds_eos=align_eos and len(eos_ids) > 1,
        )

    @property
    def num_bytes(self) -> int:
        """Memory of the tables."""
        return self.mask.nbytes + self.eos_ids.nbytes

    def read(self, logits: Tensor) -> Tensor:
        """The member's logprobs `(batch, num_logits)`, float32, where its logits are; end-of-sequence folded."""
        return torch.log_softmax(self._mask(logits), dim=-1)

    def read_probs(self, logits: Tensor) -> Tensor:
        """The same as probs."""
        return torch.softmax(self._mask(logits), dim=-1)

    def _mask(self, logits: Tensor) -> Tensor:
        """Logits with `-inf` where no token may come; end-of-sequence folded."""
        masked = logits.float() + self.mask.to(logits.device)
        if self.folds_eos:
            eos_ids = self.eos_ids.to(logits.device)
            together = masked.index_select(1, eos_ids).logsumexp(dim=-1, keepdim=True)
            masked = masked.index_fill_(1, eos_ids, -torch.inf).index_copy_(1, eos_ids[:1], together)
        return masked

    def ends(self, logprobs: Tensor) -> Tensor:
        """Whether the member's best token is end-of-sequence, `(batch, 1)` bool."""
        return (logprobs.argmax(dim=-1, keepdim=True) == self.eos_ids.to(logprobs.device)).any(dim=-1, keepdim=True)
