"""What is kept of a member's relative rows where all of them would be too many: a few numbers a token.

With e' an embedding less the common part, and u_a that of anchor a divided by its length,

    R[w, a] = exp(scale_w * (e'_w . u_a) - log_total_w),     e'_w . u_a = (e_w - m) . u_a.

With the mean m this holds since u_a has no part along the removed directions. So any entry can be made from the
embeddings as they are in memory.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self, final

import torch
from torch import Tensor

from deepen_llm.fusion.relative.entries import (
    exponentiate,
    find_lengths,
    find_nearest,
    multiply,
    pick,
    scale,
    split_anchors,
)
from deepen_llm.fusion.relative.isotropy import CommonPart
from deepen_llm.fusion.relative.member_space import MemberSpace
from deepen_llm.fusion.relative.space import SHARPNESS, check_finite
from deepen_llm.threads import share_out

TILE_ENTRIES = 1 << 24
"""Entries of the matrix that are computed at a time, float32."""


@final
@dataclass(frozen=True, eq=False)
class RowTables:
    """One member's tables, on the device of its embeddings."""

    scales: Tensor
    """`(num_logits,)` float32; 0 for a token without an embedding, whose row is uniform."""
    log_totals: Tensor
    """`(num_logits,)` float32."""
    own_anchors: Tensor
    """The anchor that each token is, or else the one with the largest entry: `(num_logits,)` int32."""
    own_shares: Tensor
    """The entry at that anchor: `(num_logits,)` float32."""
    mean_row: Tensor
    """The mean row of the tokens that may come: `(num_anchors,)` float32."""
    mean: Tensor
    directions: Tensor
    """The common part that was removed: `(hidden,)` and `(hidden, num_directions)`, float32."""

    @classmethod
    def build(cls, space: MemberSpace, common: CommonPart, advance: Callable[[float], None] | None = None) -> Self:
        """Compute every entry once, in tiles that are thrown away.

        Args:
            space: The member.
            common: What its embeddings share.
            advance: Called with the share that is done.

        Raises:
            NumericalError: An embedding holds NaN or infinity.
        """
        home, num_logits = space.embeddings.device, len(space.allowed)
        embeddings = space.embeddings.detach()[:num_logits]
        check_finite(embeddings)
        anchor_ids, allowed = space.anchor_ids.to(home), space.allowed.to(home)
        anchors = unit_rows(common.remove(embeddings[anchor_ids]))
        tables = cls._empty(num_logits, len(anchors), common)
        tables.own_anchors[anchor_ids] = torch.arange(len(anchors), dtype=torch.int32, device=home)
        is_anchor = torch.zeros(num_logits, dtype=torch.bool, device=home).index_fill_(0, anchor_ids, True)
        size, blocks, memories = max(1, TILE_ENTRIES // len(anchors)), split_anchors(anchors), threading.local()

        def fill(rows: slice) -> Tensor:
            if not hasattr(memories, "entries"):
                memories.entries = torch.empty(size * len(anchors), device=home)
            tokens = common.remove(embeddings[rows]).float()
            entries = multiply(unit_rows(tokens), blocks, memories.entries)
            return tables._fill(rows, tokens, entries, allowed[rows], is_anchor[rows])

        tiles = [slice(start, min(start + size, len(embeddings))) for start in range(0, len(embeddings), size)]
        filled = share_out(fill, tiles) if home.type == "cpu" else map(fill, tiles)
        for rows, mean_row in zip(tiles, filled, strict=True):
            tables.mean_row.add_(mean_row)
            if advance is not None:
                advance(rows.stop / len(embeddings))
        tables.mean_row.add_(allowed[len(embeddings) :].sum() / len(anchors)).div_(allowed.sum())
        return tables

    @classmethod
    def _empty(cls, num_logits: int, num_anchors: int, common: CommonPart) -> Self:
        """Tables of tokens without embeddings: uniform rows."""
        home = common.mean.device
        return cls(
            scales=torch.zeros(num_logits, device=home),
            log_totals=torch.full((num_logits,), math.log(num_anchors), device=home),
            own_anchors=torch.zeros(num_logits, dtype=torch.int32, device=home),
            own_shares=torch.full((num_logits,), 1 / num_anchors, device=home),
            mean_row=torch.zeros(num_anchors, device=home),
            mean=common.mean,
            directions=common.directions.contiguous(),
        )

    @classmethod
    def restore(cls, tables: Mapping[str, Tensor], device: torch.device) -> Self:
        """The tables that `tensors` gave."""
        return cls(**{field.name: tables[field.name].to(device) for field in fields(cls)})

    def tensors(self) -> dict[str, Tensor]:
        """Every table by its name, to be kept."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _fill(
        self, rows: slice, tokens: Tensor, entries: Sequence[Tensor], allowed: Tensor, is_anchor: Tensor
    ) -> Tensor:
        """Fill the tables' rows of some tokens.

        Args:
            rows: Which ones.
            tokens: Their embeddings `(tile, hidden)` without the common part.
            entries: Their cosines to the anchors, in blocks; used up.
            allowed: Which of them may come.
            is_anchor: Which of them are anchors.

        Returns:
            What those that may come add to the mean row, `(num_anchors,)`.
        """
        norms = torch.linalg.vector_norm(tokens, dim=-1)
        lengths = find_lengths(entries)
        sharpness = torch.where(lengths > 0, SHARPNESS / torch.where(lengths > 0, lengths, 1.0), 0.0)
        in_blocks = scale(entries, sharpness)
        greatest = in_blocks.amax(dim=0)
        own = torch.where(is_anchor, self.own_anchors[rows].long(), find_nearest(entries, in_blocks, ~is_anchor))
        shares = pick(entries, own) - greatest
        totals = exponentiate(entries, greatest)
        self.scales[rows] = sharpness * torch.where(norms > 0, 1 / norms, 0.0)
        self.log_totals[rows] = greatest + totals.log()
        self.own_anchors[rows] = own.int()
        self.own_shares[rows] = shares.exp() / totals
        weights = allowed / totals
        return torch.cat([weights @ block for block in entries])


def unit_rows(rows: Tensor) -> Tensor:
    """Rows `(..., hidden)` of length 1 in float32; a row of zeros stays one."""
    rows = rows.float()
    norms = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / torch.where(norms > 0, norms, 1.0)
