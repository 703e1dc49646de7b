"""What is kept of a member's relative rows where all of them would be too many.

With e' an embedding less the common part, a row is `R[w, a] = exp(scale_w * (e'_w . e'_a) / |e'_a| - log_total_w)`.
With the mean m and the removed directions D,

    e'_w . e'_a = e_w . e_a - h_w - h_a - d_w . d_a,     h_w = e_w . m - m . m / 2,     d_w = D (e_w - m).

So a few numbers a token are enough to make any entry from the embeddings, which are in memory as they are. To know
which entries matter, the largest are remembered by position; and because the many others together matter too, the
entries at a fixed sample of the anchors are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Self, final

import torch
from torch import Tensor

from deepen_llm.fusion.relative.isotropy import CommonPart
from deepen_llm.fusion.relative.member import MemberSpace
from deepen_llm.fusion.relative.space import SHARPNESS, check_finite

NUM_NEAREST = 8
"""Largest entries that are remembered, a row."""
NUM_REACHED = 4
"""Tokens that are remembered, an anchor."""
NUM_SAMPLED = 192
"""Anchors in the fixed sample, the same ones for every member."""
SAMPLE_SEED = 2404
TILE_ENTRIES = 1 << 24
"""Entries of the matrix that are computed at a time, float32."""
BLOCK = 64
"""The largest entries of a row are looked for in the blocks of this size that have the largest maxima."""


@final
@dataclass(frozen=True, eq=False)
class RowTables:
    """One member's tables, on the device of its embeddings."""

    scales: Tensor
    """`(num_logits,)` float32; 0 for a token without an embedding, whose row is uniform."""
    log_totals: Tensor
    """`(num_logits,)` float32."""
    inverse_lengths: Tensor
    """1 / |e'|, or 0 where e' is 0: `(num_logits,)` float32."""
    shared: Tensor
    """h and d of each token: `(num_logits, 1 + num_directions)` float32."""
    nearest: Tensor
    """Anchors with the largest entries, the token's own first: `(num_logits, num_nearest)` int32."""
    reached: Tensor
    """Tokens that have the anchor among their nearest, its own first: `(num_anchors, num_reached)` int32; then -1."""
    sampled: Tensor
    """Logarithms of the entries at the sampled anchors, times the number of anchors: `(num_logits, num_sampled)`,
    float16."""
    mean_row: Tensor
    """The mean row of the tokens that may come: `(num_anchors,)` float32."""

    @classmethod
    def build(
        cls, space: MemberSpace, common: CommonPart, sample: Tensor, advance: Callable[[float], None] | None = None
    ) -> Self:
        """Compute every entry once, in tiles that are thrown away.

        Args:
            space: The member.
            common: What its embeddings share.
            sample: Positions of the sampled anchors `(num_sampled,)`, int64.
            advance: Called with the share that is done.

        Raises:
            NumericalError: An embedding holds NaN or infinity.
        """
        home, num_logits = space.embeddings.device, len(space.allowed)
        embeddings = space.embeddings.detach()[:num_logits]
        check_finite(embeddings)
        anchor_ids, allowed = space.anchor_ids.to(home), space.allowed.to(home)
        anchors = unit_rows(common.remove(embeddings[anchor_ids]))
        tables = cls._empty(num_logits, len(anchors), sample.to(home), common)
        values = anchors.new_full(tables.nearest.shape, -torch.inf)
        tile = max(1, TILE_ENTRIES // len(anchors))
        for start in range(0, len(embeddings), tile):
            rows = slice(start, min(start + tile, len(embeddings)))
            tables.shared[rows] = common.coordinates(embeddings[rows])
            values[rows] = tables._fill(rows, common.remove(embeddings[rows]).float(), anchors, allowed[rows], sample)
            if advance is not None:
                advance(rows.stop / len(embeddings))
        tables.mean_row.add_(allowed[len(embeddings) :].sum() / len(anchors)).div_(allowed.sum())
        tables._name_own(anchor_ids)
        tables._invert(values, anchor_ids, allowed)
        return tables

    @classmethod
    def _empty(cls, num_logits: int, num_anchors: int, sample: Tensor, common: CommonPart) -> Self:
        """Tables of tokens without embeddings: uniform rows."""
        home = sample.device
        num_nearest = min(NUM_NEAREST, num_anchors)
        return cls(
            scales=torch.zeros(num_logits, device=home),
            log_totals=torch.full((num_logits,), math.log(num_anchors), device=home),
            inverse_lengths=torch.zeros(num_logits, device=home),
            shared=torch.zeros(num_logits, 1 + common.directions.shape[1], device=home),
            nearest=torch.arange(num_nearest, dtype=torch.int32, device=home).repeat(num_logits, 1),
            reached=torch.full((num_anchors, NUM_REACHED), -1, dtype=torch.int32, device=home),
            sampled=torch.zeros(num_logits, len(sample), dtype=torch.float16, device=home),
            mean_row=torch.zeros(num_anchors, device=home),
        )

    @classmethod
    def restore(cls, tables: Mapping[str, Tensor], device: torch.device) -> Self:
        """The tables that `tensors` gave."""
        return cls(**{field.name: tables[field.name].to(device) for field in fields(cls)})

    def tensors(self) -> dict[str, Tensor]:
        """Every table by its name, to be kept."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def num_bytes(self) -> int:
        """Memory of all tables."""
        return sum(table.nbytes for table in self.tensors().values())

    def _fill(self, rows: slice, tokens: Tensor, anchors: Tensor, allowed: Tensor, sample: Tensor) -> Tensor:
        """The tables' rows of some tokens `(tile, hidden)`; logprobs of their nearest anchors `(tile, num_nearest)`."""
        norms = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True)
        entries = (tokens / torch.where(norms > 0, norms, 1.0)) @ anchors.T
        lengths = torch.linalg.vector_norm(entries, dim=-1, keepdim=True)
        sharpness = torch.where(lengths > 0, SHARPNESS / torch.where(lengths > 0, lengths, 1.0), 0.0)
        entries.mul_(sharpness)
        values, nearest = largest(entries, self.nearest.shape[1])
        sampled = entries[:, sample.to(entries.device)]
        entries.sub_(values[:, :1]).exp_()
        totals = entries.sum(dim=-1)
        log_totals = values[:, 0] + totals.log()
        self.inverse_lengths[rows] = torch.where(norms > 0, 1 / norms, 0.0).squeeze(1)
        self.scales[rows] = sharpness.squeeze(1) * self.inverse_lengths[rows]
        self.log_totals[rows] = log_totals
        self.nearest[rows] = nearest.int()
        self.sampled[rows] = (sampled - log_totals[:, None] + math.log(len(anchors))).half()
        self.mean_row.add_((allowed / totals) @ entries)
        return torch.where(sharpness > 0, values - log_totals[:, None], -torch.inf)

    def _name_own(self, anchor_ids: Tensor) -> None:
        """Put every anchor token's own anchor first among its nearest; what stood there takes its place."""
        own = torch.arange(len(anchor_ids), dtype=torch.int32, device=anchor_ids.device)
        nearest = self.nearest[anchor_ids]
        nearest = torch.where(nearest == own[:, None], nearest[:, :1], nearest)
        nearest[:, 0] = own
        self.nearest[anchor_ids] = nearest

    def _invert(self, values: Tensor, anchor_ids: Tensor, allowed: Tensor) -> None:
        """Fill `reached` from the nearest anchors of all tokens and the logprobs of these."""
        num_tokens, num_nearest = self.nearest.shape
        tokens = torch.arange(num_tokens, device=values.device).repeat_interleave(num_nearest)
        anchors, strengths = self.nearest.flatten().long(), values.flatten().clone()
        strengths[anchor_ids * num_nearest] = torch.inf
        is_used = allowed[tokens] & (strengths > -torch.inf)
        tokens, anchors, strengths = tokens[is_used], anchors[is_used], strengths[is_used]
        order = strengths.argsort(descending=True)
        order = order[anchors[order].argsort(stable=True)]
        tokens, anchors = tokens[order], anchors[order]
        first = torch.searchsorted(anchors, torch.arange(len(self.reached), device=anchors.device))
        ranks = torch.arange(len(anchors), device=anchors.device) - first[anchors]
        is_kept = ranks < NUM_REACHED
        self.reached[anchors[is_kept], ranks[is_kept]] = tokens[is_kept].int()


def draw_sample(num_anchors: int) -> Tensor:
    """Positions of the sampled anchors, always the same ones `(num_sampled,)`, int64, sorted."""
    generator = torch.Generator().manual_seed(SAMPLE_SEED)
    return torch.randperm(num_anchors, generator=generator)[:NUM_SAMPLED].sort().values


def unit_rows(rows: Tensor) -> Tensor:
    """Rows `(..., hidden)` of length 1 in float32; a row of zeros stays one."""
    rows = rows.float()
    norms = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / torch.where(norms > 0, norms, 1.0)


def largest(entries: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest entries of each row and their places, `(rows, count)` each: `topk` in a third of its time.

    The `count` largest entries lie in the `count` blocks that have the largest maxima.
    """
    num_rows, width = entries.shape
    num_blocks = width // BLOCK
    if num_blocks <= count:
        return entries.topk(count, dim=-1)
    body, tail = entries[:, : num_blocks * BLOCK], entries[:, num_blocks * BLOCK :]
    blocks = body.reshape(num_rows, num_blocks, BLOCK).amax(dim=-1).topk(count, dim=-1).indices
    places = (blocks[:, :, None] * BLOCK + torch.arange(BLOCK, device=entries.device)).flatten(1)
    tail_places = torch.arange(width - tail.shape[1], width, device=entries.device).expand(num_rows, -1)
    places = torch.cat([places, tail_places], dim=1)
    values, order = entries.gather(1, places).topk(count, dim=-1)
    return values, places.gather(1, order)
