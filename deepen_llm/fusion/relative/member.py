"""One member in the relative space: its tables, and what a step of fusion asks of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, final

import torch
import torch.nn.functional as F
from torch import Tensor

from deepen_llm.fusion.relative.inverse import mix
from deepen_llm.fusion.relative.space import build_relative_matrix, find_own_anchors


@final
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


@final
class RowBuffer:
    """Memory for gathered rows, used again at each step: the system takes ten times as long to hand out new pages."""

    def __init__(self) -> None:
        self._rows = torch.empty(0)

    def gather(self, table: Tensor, ids: Tensor) -> Tensor:
        """Rows `(*ids.shape, width)` of a table `(rows, width)`; they last until the next call."""
        num_rows = ids.numel()
        if len(self._rows) < num_rows:
            with torch.inference_mode(mode=False):
                self._rows = table.new_empty(num_rows, table.shape[1])
        rows = torch.index_select(table, 0, ids.flatten(), out=self._rows[:num_rows])
        return rows.view(*ids.shape, -1)


@final
@dataclass(frozen=True, eq=False)
class RelativeMember:
    """A member's tables. `relative` lies on the main model's device, the others on the member's own.

    In `relative`, one row more than the member has tokens stands for its rest: what is left out where only some of
    its tokens are used. It is the mean row of the tokens that may come.
    """

    weight: float
    relative: Tensor
    """Probs `(num_logits + 1, num_anchors)`, float32."""
    own_anchors: Tensor
    """Position of each token's own anchor, the one that it is or is most like: `(num_logits,)` int64."""
    own_shares: Tensor
    """What of each token's row lies on its own anchor: `(num_logits,)`."""
    mask: Tensor
    """0 where a token may come, else `-inf`: `(num_logits,)`."""
    eos_ids: Tensor
    """`(num_eos,)` int64, without repetition."""
    folds_eos: bool
    """Whether all of them count as the first."""

    @classmethod
    def build(cls, space: MemberSpace, weight: float, *, align_eos: bool, device: torch.device) -> Self:
        """The tables of one member; `device` is the main model's.

        Raises:
            NumericalError: An embedding holds NaN or infinity.
        """
        home = space.embeddings.device
        eos_ids = list(dict.fromkeys(space.eos_ids))
        anchor_ids = F.pad(space.anchor_ids, (0, 1), value=eos_ids[0]) if align_eos else space.anchor_ids
        allowed = space.allowed.to(home)
        matrix = build_relative_matrix(space.embeddings, anchor_ids.to(home), len(allowed))
        own_anchors = find_own_anchors(matrix, anchor_ids.to(home))
        return cls(
            weight=weight,
            relative=torch.cat([matrix, matrix[allowed].mean(dim=0, keepdim=True)]).to(device),
            own_anchors=own_anchors,
            own_shares=matrix.gather(1, own_anchors[:, None]).squeeze(1),
            mask=torch.zeros(len(allowed), device=home).masked_fill_(~allowed, -torch.inf),
            eos_ids=torch.tensor(eos_ids, dtype=torch.int64, device=home),
            folds_eos=align_eos and len(eos_ids) > 1,
        )

    @property
    def num_bytes(self) -> int:
        """Memory of all tables."""
        tables = (self.relative, self.own_anchors, self.own_shares, self.mask, self.eos_ids)
        return sum(table.nbytes for table in tables)

    def read(self, logits: Tensor) -> Tensor:
        """The member's logprobs `(batch, num_logits)`, float32, where its logits are; end-of-sequence folded."""
        masked = logits.float() + self.mask.to(logits.device)
        if self.folds_eos:
            eos_ids = self.eos_ids.to(logits.device)
            together = masked.index_select(1, eos_ids).logsumexp(dim=-1, keepdim=True)
            masked = masked.index_fill_(1, eos_ids, -torch.inf).index_copy_(1, eos_ids[:1], together)
        return torch.log_softmax(masked, dim=-1)

    def ends(self, logprobs: Tensor) -> Tensor:
        """Whether the member's best token is end-of-sequence, `(batch, 1)` bool."""
        return (logprobs.argmax(dim=-1, keepdim=True) == self.eos_ids.to(logprobs.device)).any(dim=-1, keepdim=True)

    def mix_all(self, probs: Tensor) -> Tensor:
        """The weighted relative probs `(batch, num_anchors)` of probs `(batch, num_logits)`.

        Like the two below, it takes the probs where the member's logits are and answers on the main model's device.
        """
        return self.weight * mix(probs.to(self.relative.device), self.relative[:-1])

    def mix_best(self, probs: Tensor, num_tokens: int) -> Tensor:
        """The same from the best tokens and the rest; these alone move between devices."""
        best = probs.topk(min(num_tokens, probs.shape[-1]), dim=-1)
        rest = (1 - best.values.sum(dim=-1, keepdim=True)).clamp_min(0)
        shares = (self.weight * torch.cat([best.values, rest], dim=1)).to(self.relative.device)
        ids = self.with_rest(best.indices.to(self.relative.device))
        return F.embedding_bag(ids, self.relative, per_sample_weights=shares, mode="sum")

    def mix_own(self, probs: Tensor) -> Tensor:
        """What the tokens put on their own anchors, `(batch, num_anchors)`; without the weight."""
        shares = probs * self.own_shares.to(probs.device)
        carried = torch.zeros(len(shares), self.relative.shape[1], device=shares.device)
        return carried.index_add_(1, self.own_anchors.to(shares.device), shares).to(self.relative.device)

    def gather(self, token_ids: Tensor, buffer: RowBuffer) -> Tensor:
        """The rows `(batch, num_ids + 1, num_anchors)` of ids `(batch, num_ids)` and of the rest, in the buffer."""
        return buffer.gather(self.relative, self.with_rest(token_ids))

    def with_rest(self, token_ids: Tensor) -> Tensor:
        """The ids `(batch, num_ids)` with the rest's behind them, `(batch, num_ids + 1)`."""
        return F.pad(token_ids, (0, 1), value=len(self.relative) - 1)
