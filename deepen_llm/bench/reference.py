"""The dense reference: relative fusion over every token and every anchor, in float64, for a batch of recorded steps.

The main model's matrix is held in float32 and widened tile by tile; the other members' rows are made, used and thrown
away. It is slow and large, and it decides what the quick forms are measured against.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from deepen_llm.fusion.relative import MemberSpace
from deepen_llm.fusion.relative.inverse import TINY, InverseSearch
from deepen_llm.fusion.relative.isotropy import CommonPart
from deepen_llm.fusion.relative.space import SHARPNESS

TILE_ENTRIES = 1 << 24


def fuse_densely(
    members: Sequence[MemberSpace],
    logits: Sequence[Tensor],
    *,
    main: int,
    weights: Sequence[float],
    search: InverseSearch,
) -> Tensor:
    """The fused logprobs `(num_steps, num_logits)` of the main model, float64.

    End-of-sequence counts as any token, and the answer is trusted wholly.
    """
    read = [
        torch.log_softmax(rows.double().masked_fill(~member.allowed, -torch.inf), dim=-1)
        for member, rows in zip(members, logits, strict=True)
    ]
    num_anchors = len(members[main].anchor_ids)
    matrix = torch.empty(read[main].shape[1], num_anchors)
    target = torch.zeros(len(read[main]), num_anchors, dtype=torch.float64)
    for index, member in enumerate(members):
        probs = read[index].exp()
        for rows, tile in make_rows(member):
            target += weights[index] * probs[:, rows] @ tile
            if index == main:
                matrix[rows] = tile.float()
    if search.kind == "gradient":
        return search_by_gradient(read[main], matrix, target, search)
    start = probs = read[main].exp()
    for _ in range(search.num_steps):
        probs = probs * pull(target / mix(probs, matrix).clamp_min(TINY), matrix)
    found = read[main] + torch.where(start > 0, probs / start, 1.0).log()
    return torch.log_softmax(found, dim=-1)


def search_by_gradient(logprobs: Tensor, matrix: Tensor, target: Tensor, search: InverseSearch) -> Tensor:
    """The published search by torch's own AdamW and schedule, with the gradient in closed form."""
    rest = torch.isinf(logprobs)
    logits = torch.nn.Parameter(logprobs.masked_fill(rest, -1e30))
    optimizer = torch.optim.AdamW([logits], lr=search.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10, eta_min=search.learning_rate / 4)
    for _ in range(search.num_steps):
        with torch.no_grad():
            probs = torch.softmax(logits, dim=-1)
            gathered = pull(target / mix(probs, matrix).clamp_min(TINY), matrix)
            logits.grad = probs * (target.sum(dim=-1, keepdim=True) - gathered) / target.shape[1]
        optimizer.step()
        schedule.step()
    return torch.log_softmax(logits.detach().masked_fill(rest, -torch.inf), dim=-1)


def make_rows(member: MemberSpace) -> Iterator[tuple[slice, Tensor]]:
    """The relative rows of a member, tile by tile in float64, `(tile, num_anchors)`; uniform without an embedding."""
    common = CommonPart.measure(member.embeddings, member.removed_directions)
    anchors = _unit(common.remove(member.embeddings[member.anchor_ids]).double())
    num_tokens, num_anchors = len(member.allowed), len(anchors)
    tile = max(1, TILE_ENTRIES // num_anchors)
    for begin in range(0, num_tokens, tile):
        rows = slice(begin, min(begin + tile, num_tokens))
        tokens = common.remove(member.embeddings[rows]).double()
        entries = torch.softmax(SHARPNESS * _unit(_unit(tokens) @ anchors.T), dim=-1)
        missing = rows.stop - rows.start - len(entries)
        yield rows, torch.cat([entries, entries.new_full((missing, num_anchors), 1 / num_anchors)])


def mix(probs: Tensor, matrix: Tensor) -> Tensor:
    """`probs @ matrix` in float64, `(num_steps, num_anchors)`."""
    mixed = probs.new_zeros(len(probs), matrix.shape[1])
    for rows in _tiles(matrix):
        mixed += probs[:, rows] @ matrix[rows].double()
    return mixed


def pull(ratios: Tensor, matrix: Tensor) -> Tensor:
    """`ratios @ matrix.T` in float64, `(num_steps, num_tokens)`."""
    return torch.cat([ratios @ matrix[rows].double().T for rows in _tiles(matrix)], dim=1)


def _tiles(matrix: Tensor) -> Iterator[slice]:
    size = max(1, TILE_ENTRIES // matrix.shape[1])
    yield from (slice(begin, begin + size) for begin in range(0, len(matrix), size))


def _unit(rows: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / torch.where(norms > 0, norms, 1.0)
