"""What relative fusion needs to know of one member."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self, final

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
