"""The relative space: every token described by its similarities to the anchors (arXiv 2404.12715, section 3).

An anchor is a token that all members share. With the rows of member i's input embeddings written e_w,

    R_i[w, a] = softmax over a of  100 * c[w, a] / ||c[w, :]||,     c[w, a] = cos(e_w, e_a).

Each row is a distribution over the anchors, so p R_i is member i's distribution p told in terms that all members share.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deepen_llm.errors import NumericalError
from deepen_llm.fusion.relative.isotropy import CommonPart

SHARPNESS = 100.0
"""The inverse temperature of the softmax over the anchors."""

TILE_ELEMENTS = 1 << 22
"""The most entries of the matrix that are computed at a time, in float64."""


def build_relative_matrix(
    embeddings: Tensor, anchor_ids: Tensor, num_tokens: int, common: CommonPart | None = None
) -> Tensor:
    """The relative representation matrix of one member.

    A token without an embedding, or whose embedding is all zeros, has no direction: its row is uniform. So is the
    column of such an anchor as any other token sees it: a cosine of 0.

    Args:
        embeddings: Input embeddings `(num_rows, hidden)`, any float dtype and device; rows past
            `num_tokens` are ignored.
        anchor_ids: This member's ids of the anchors `(num_anchors,)`, int64.
        num_tokens: Rows of the matrix; tokens past `num_rows` count as tokens without an embedding.
        common: What is removed from the embeddings first; None removes nothing.

    Returns:
        Probs `(num_tokens, num_anchors)`, float32, on the device of the embeddings; computed in float64.

    Raises:
        NumericalError: An embedding holds NaN or infinity.
    """
    embeddings = embeddings.detach()[:num_tokens]
    check_finite(embeddings)
    remove = common.remove if common is not None else Tensor.double
    anchors = _unit_rows(remove(embeddings[anchor_ids.to(embeddings.device)]))
    matrix = embeddings.new_full((num_tokens, len(anchors)), 1.0 / len(anchors), dtype=torch.float32)
    tile = max(1, TILE_ELEMENTS // max(anchors.shape))
    for start in range(0, len(embeddings), tile):
        rows = embeddings[start : start + tile]
        cosines = _unit_rows(remove(rows)) @ anchors.T
        matrix[start : start + len(rows)] = torch.softmax(SHARPNESS * _unit_rows(cosines), dim=-1).float()
    return matrix


def find_own_anchors(matrix: Tensor, anchor_ids: Tensor) -> Tensor:
    """For every token the anchor that it is, or else the one most like it.

    Args:
        matrix: The member's relative matrix `(num_tokens, num_anchors)`.
        anchor_ids: This member's ids of the anchors `(num_anchors,)`, on the same device.

    Returns:
        Positions among the anchors `(num_tokens,)`, int64.
    """
    own = matrix.argmax(dim=-1)
    own[anchor_ids] = torch.arange(len(anchor_ids), device=own.device)
    return own


def _unit_rows(rows: Tensor) -> Tensor:
    """The rows divided by their L2 norms, in float64; a row of zeros stays one."""
    rows = rows.double()
    norms = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / torch.where(norms > 0, norms, 1.0)


def check_finite(embeddings: Tensor) -> None:
    """Refuse embeddings with NaN or infinity.

    Raises:
        NumericalError: It names the first bad row.
    """
    bad = (~torch.isfinite(embeddings).all(dim=-1)).nonzero().flatten()
    if len(bad):
        raise NumericalError(
            f"input embeddings must be finite; {len(bad)} of {len(embeddings)} rows hold NaN or infinity, the first "
            f"is row {int(bad[0])}: load an undamaged checkpoint, or a dtype that can hold its values"
        )
