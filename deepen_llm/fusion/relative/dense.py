"""The dense form of relative fusion: every row of the relative matrices is kept. For small vocabularies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self, final

import torch
import torch.nn.functional as F
from torch import Tensor

from deepen_llm.fusion.base import Step
from deepen_llm.fusion.relative.buffer import RowBuffer
from deepen_llm.fusion.relative.candidates import Columns, Contribution, MemberTables, Search
from deepen_llm.fusion.relative.inverse import InverseSearch, mix
from deepen_llm.fusion.relative.isotropy import CommonPart
from deepen_llm.fusion.relative.member_space import MemberSpace
from deepen_llm.fusion.relative.prescreen import OwnAnchors
from deepen_llm.fusion.relative.space import build_relative_matrix, find_own_anchors


@final
@dataclass(frozen=True, eq=False)
class DenseTables(MemberTables):
    """A member's matrix, on the main model's device."""

    relative: Tensor
    """Probs `(num_logits + 1, num_anchors)`, float32; the last row is the residual's."""
    own: OwnAnchors
    buffer: RowBuffer = field(default_factory=RowBuffer)

    @classmethod
    def build(cls, space: MemberSpace, device: torch.device) -> Self:
        """The tables of one member; `device` is the main model's.

        Raises:
            NumericalError: An embedding holds NaN or infinity.
        """
        home = space.embeddings.device
        allowed, anchor_ids = space.allowed.to(home), space.anchor_ids.to(home)
        common = (
            CommonPart.measure(space.embeddings, space.removed_directions) if space.removed_directions != 0 else None
        )
        matrix = build_relative_matrix(space.embeddings, anchor_ids, len(allowed), common)
        positions = find_own_anchors(matrix, anchor_ids)
        return cls(
            relative=torch.cat([matrix, matrix[allowed].mean(dim=0, keepdim=True)]).to(device),
            own=OwnAnchors(positions, matrix.gather(1, positions[:, None]).squeeze(1), len(anchor_ids)),
        )

    @property
    def num_bytes(self) -> int:
        """Memory of all tables."""
        return self.relative.nbytes + self.own.num_bytes

    def rows(self, token_ids: Tensor, columns: Columns | None) -> Tensor:
        """See `MemberTables`."""
        del columns
        return self.buffer.gather(self.relative, self._with_residual(token_ids))

    def mix(self, probs: Tensor, token_ids: Tensor, columns: Columns | None) -> Tensor:
        """See `MemberTables`. Only these tokens move between devices."""
        del columns
        ids = self._with_residual(token_ids.to(self.relative.device))
        return F.embedding_bag(ids, self.relative, per_sample_weights=probs.to(self.relative.device), mode="sum")

    def mix_all(self, probs: Tensor) -> Tensor:
        """The relative probs `(batch, num_anchors)` of probs `(batch, num_logits)`."""
        return mix(probs.to(self.relative.device), self.relative[:-1])

    def _with_residual(self, token_ids: Tensor) -> Tensor:
        """The ids `(batch, num_ids)` followed by the residual's, `(batch, num_ids + 1)`."""
        return F.pad(token_ids, (0, 1), value=len(self.relative) - 1)


@final
class FullSearch(Search):
    """The search over every token and every anchor (arXiv 2404.12715, section 3)."""

    def __init__(self, members: Sequence[DenseTables], main: int, inverse: InverseSearch) -> None:
        self.members = self._dense = tuple(members)
        self._main = members[main]
        self._inverse = inverse

    def find(self, step: Step, contributions: Sequence[Contribution]) -> Tensor:
        """See `Search.find`."""
        if self._inverse.num_steps == 0:
            return step.logprobs
        target = step.weight(step.main) * self._main.mix_all(step.probs)
        for given in contributions:
            tables = next(tables for tables in self._dense if tables is given.tables)
            target = target + given.weight * tables.mix_all(given.probs)
        return self._inverse.run(step.logprobs, self._main.relative[:-1], target)
