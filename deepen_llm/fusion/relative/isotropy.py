"""Embeddings made comparable: their common part removed, so that cosines tell tokens apart.

Embeddings of a language model share a mean and a few strong directions, and tokens that were rarely or never trained
share almost everything else as well. Their cosines are then all close to 1, the rows of the relative matrix flat, and
a vote for one such token is lost among all of them. Removing the mean and the strongest directions ("all-but-the-top",
Mu and Viswanath, arXiv 1702.01417, section 2) brings out what is each token's own. DeePEn as published does not do it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor

DIMENSIONS_PER_DIRECTION = 100
"""One direction is removed for so many dimensions, as the paper advises, and one at least."""

TILE_ROWS = 1 << 14


@final
@dataclass(frozen=True, eq=False)
class CommonPart:
    """What a member's embeddings share. It is measured once; rows are freed of it when they are needed."""

    mean: Tensor
    """`(hidden,)`, float32."""
    directions: Tensor
    """The strongest principal directions, orthonormal columns: `(hidden, num_directions)`, float32."""

    @classmethod
    def measure(cls, embeddings: Tensor, num_directions: int | None = None) -> Self:
        """The common part of embeddings, read in tiles.

        Args:
            embeddings: `(num_rows, hidden)`, any float dtype and device. Rows of zeros belong to unused tokens and are
                left out.
            num_directions: How many directions, at most `hidden - 1`; None is one for every 100 dimensions. 0 removes
                nothing, not even the mean.
        """
        hidden = embeddings.shape[1]
        if num_directions is None:
            num_directions = max(1, hidden // DIMENSIONS_PER_DIRECTION)
        mean = torch.zeros(hidden, device=embeddings.device)
        if num_directions == 0:
            return cls(mean, mean.new_empty(hidden, 0))
        num_used = embeddings.any(dim=-1).sum().clamp_min(1)
        for tile in torch.split(embeddings, TILE_ROWS):
            mean += tile.sum(dim=0, dtype=torch.float32) / num_used
        covariance = torch.zeros(hidden, hidden, dtype=torch.float64, device=embeddings.device)
        for tile in torch.split(embeddings, TILE_ROWS):
            centred = (tile - mean) * tile.any(dim=-1, keepdim=True)
            covariance += (centred.T @ centred).double() / num_used
        vectors: Tensor = torch.linalg.eigh(covariance).eigenvectors
        return cls(mean, vectors[:, -min(num_directions, hidden - 1) :].float())

    def remove(self, rows: Tensor) -> Tensor:
        """Rows `(..., hidden)` less the mean and their parts along the directions; rows of zeros stay zero.

        Float32 where anything is removed; otherwise the rows themselves.
        """
        if self.directions.shape[1] == 0:
            return rows
        centred = (rows - self.mean) * rows.any(dim=-1, keepdim=True)
        return centred - (centred @ self.directions) @ self.directions.T
