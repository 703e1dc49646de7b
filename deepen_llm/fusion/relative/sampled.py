"""The sampled form of relative fusion, for vocabularies of any size: rows are made when a step needs them.

Of a row only the entries at a few anchors are made, from the embeddings, which are in memory with the model, and a few
numbers a token (`rows.py`). The sums over all anchors become a quadrature: the own anchors of the candidates and of the
contributed tokens count as they are; all others are represented by a fixed sample among them, each row's entries there
scaled so that the row still sums to 1. Background entries differ by a factor of 2 and more from anchor to anchor, so
taking them all for equal would be a far worse approximation than a sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, final

import torch
from torch import Tensor

from deepen_llm.fusion.relative.buffer import RowBuffer
from deepen_llm.fusion.relative.candidates import Columns, MemberTables
from deepen_llm.fusion.relative.inverse import TINY
from deepen_llm.fusion.relative.isotropy import CommonPart
from deepen_llm.fusion.relative.member_space import MemberSpace
from deepen_llm.fusion.relative.prescreen import OwnAnchors
from deepen_llm.fusion.relative.rows import RowTables, unit_rows
from deepen_llm.fusion.relative.space import SHARPNESS

if TYPE_CHECKING:
    from deepen_llm.table_store import TableStore

NUM_SAMPLED = 512
"""Anchors in the fixed sample, the same ones for every member."""
SAMPLE_SEED = 2404


@final
@dataclass(frozen=True, eq=False)
class SampledTables(MemberTables):
    """One member's tables and embeddings, on the member's device."""

    own: OwnAnchors
    embeddings: Tensor
    """The model's own, `(num_rows, hidden)`."""
    anchor_ids: Tensor
    """`(num_anchors,)` int64."""
    common: CommonPart
    """What all embeddings share, and rows are made without."""
    scales: Tensor
    log_totals: Tensor
    mean_row: Tensor
    """These three as in `RowTables`."""
    sample: Tensor
    """`(num_sampled,)` int64."""
    sampled: Tensor
    """The sampled anchors' embeddings without the common part, of length 1: `(num_sampled, hidden)` float32."""
    token_buffer: RowBuffer = field(default_factory=RowBuffer)
    anchor_buffer: RowBuffer = field(default_factory=RowBuffer)

    @classmethod
    def build(
        cls,
        space: MemberSpace,
        *,
        store: TableStore | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Self:
        """The tables from the store, or else built and stored there.

        Raises:
            NumericalError: An embedding holds NaN or infinity.
        """
        home = space.embeddings.device
        key = "" if store is None else store.key(_dependencies(space))
        kept = None if store is None else store.load(key)
        if kept is not None:
            tables = RowTables.restore(kept, home)
        else:
            tables = RowTables.build(space, CommonPart.measure(space.embeddings, space.removed_directions), progress)
            if store is not None:
                store.save(key, tables.tensors())
        embeddings, anchor_ids = space.embeddings.detach(), space.anchor_ids.to(home)
        common, sample = CommonPart(tables.mean, tables.directions), draw_sample(len(anchor_ids)).to(home)
        return cls(
            own=OwnAnchors(tables.own_anchors.long(), tables.own_shares, len(anchor_ids)),
            embeddings=embeddings,
            anchor_ids=anchor_ids,
            common=common,
            scales=tables.scales,
            log_totals=tables.log_totals,
            mean_row=tables.mean_row,
            sample=sample,
            sampled=unit_rows(common.remove(embeddings[anchor_ids[sample]])),
        )

    @property
    def num_bytes(self) -> int:
        """Memory of the tables; the embeddings are the model's."""
        tables = (self.anchor_ids, self.scales, self.log_totals, self.mean_row, self.sample, self.sampled)
        common = self.common.mean.nbytes + self.common.directions.nbytes
        return self.own.num_bytes + common + sum(table.nbytes for table in tables)

    def rows(self, token_ids: Tensor, columns: Columns | None) -> Tensor:
        """See `MemberTables`."""
        if columns is None:
            raise ValueError("the sampled form needs columns: its rows are never made whole")
        columns = columns.to(token_ids.device)
        tokens = self.token_buffer.gather(self.embeddings, self._embedded(token_ids)).sub_(self.common.mean)
        near = self.anchor_buffer.gather(self.embeddings, self._embedded(_pick(self.anchor_ids, columns.anchors)))
        near = unit_rows(self.common.remove(near))
        entries = torch.cat([torch.bmm(tokens, near.transpose(1, 2)), tokens @ self.sampled.T], dim=-1)
        scales, log_totals = _pick(self.scales, token_ids)[..., None], _pick(self.log_totals, token_ids)[..., None]
        entries.mul_(scales).sub_(log_totals).exp_()
        mean_sampled = self.mean_row[self.sample].expand(len(token_ids), -1)
        mean = torch.cat([_pick(self.mean_row, columns.anchors), mean_sampled], dim=1)
        entries = torch.cat([entries, mean[:, None]], dim=1)
        entries *= torch.cat([columns.is_new, columns.is_sampled], dim=1)[:, None]
        num_near = columns.anchors.shape[1]
        sampled = entries[..., num_near:]
        left = (1 - entries[..., :num_near].sum(dim=-1, keepdim=True)).clamp_min_(0)
        sampled *= left / sampled.sum(dim=-1, keepdim=True).clamp_min_(TINY)
        return entries

    def _embedded(self, token_ids: Tensor) -> Tensor:
        """The ids, with that of some embedding for a token without one: its scale is 0, so that any will do."""
        return token_ids.clamp_max(len(self.embeddings) - 1)


def draw_sample(num_anchors: int) -> Tensor:
    """Positions of the sampled anchors, always the same ones `(num_sampled,)`, int64, sorted."""
    generator = torch.Generator().manual_seed(SAMPLE_SEED)
    return torch.randperm(num_anchors, generator=generator)[:NUM_SAMPLED].sort().values


def _pick(table: Tensor, positions: Tensor) -> Tensor:
    """`table[positions]`, which on CPU takes a third of the time this way."""
    return table.index_select(0, positions.flatten()).view(*positions.shape, *table.shape[1:])


def _dependencies(space: MemberSpace) -> dict[str, Tensor | int | float | None]:
    """Everything that the tables depend on."""
    return {
        "embeddings": space.embeddings,
        "anchor_ids": space.anchor_ids,
        "allowed": space.allowed,
        "removed_directions": space.removed_directions,
        "sharpness": SHARPNESS,
    }
