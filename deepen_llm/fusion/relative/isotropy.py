"""Embeddings made comparable: their common part removed, so that cosines tell tokens apart.

Embeddings of a language model share a mean and a few strong directions, and tokens that were rarely or never trained
share almost everything else as well. Their cosines are then all close to 1, the rows of the relative matrix flat, and
a vote for one such token is lost among all of them. Removing the mean and the strongest directions ("all-but-the-top",
Mu and Viswanath, arXiv 1702.01417, section 2) brings out what is each token's own. DeePEn as published does not do it.
"""

from __future__ import annotations

import torch
from torch import Tensor

DIMENSIONS_PER_DIRECTION = 100
"""One direction is removed for so many dimensions, as the paper advises, and one at least."""


def remove_directions(embeddings: Tensor, num_directions: int | None = None) -> Tensor:
    """The embeddings, centred, less their projections on the strongest principal directions.

    Args:
        embeddings: `(num_rows, hidden)`, any float dtype and device. Rows of zeros belong to unused tokens: they are
            left out of the statistics and stay zero.
        num_directions: How many directions to remove, at most `hidden - 1`; 0 leaves the embeddings as they are, None
            is one for every 100 dimensions.

    Returns:
        `(num_rows, hidden)`: the embeddings themselves where `num_directions` is 0, else a new float32 tensor.
    """
    if num_directions == 0:
        return embeddings
    hidden = embeddings.shape[1]
    num_directions = max(1, hidden // DIMENSIONS_PER_DIRECTION) if num_directions is None else num_directions
    rows = embeddings.float()
    is_used = rows.any(dim=-1, keepdim=True)
    num_used = is_used.sum().clamp_min(1)
    centred: Tensor = (rows - rows.sum(dim=0) / num_used) * is_used
    covariance = (centred.T @ centred).double() / num_used
    vectors: Tensor = torch.linalg.eigh(covariance).eigenvectors
    directions = vectors[:, -min(num_directions, hidden - 1) :].float()
    return centred - (centred @ directions) @ directions.T
