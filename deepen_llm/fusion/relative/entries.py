"""The entries of the relative matrix for a few tokens at a time: at every anchor, in blocks of anchors.

On processors a product whose result stays in the cache takes two thirds of the time, and so does all that is done to it
afterwards. A block is `(tokens, anchors of the block)`; the blocks of some tokens lie one after another in one memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ANCHORS_AT_ONCE = 384
"""In a block, on a processor. Elsewhere all anchors are one block."""


def split_anchors(anchors: Tensor) -> tuple[Tensor, ...]:
    """Anchors `(num_anchors, hidden)` in blocks."""
    return torch.split(anchors, ANCHORS_AT_ONCE if anchors.device.type == "cpu" else len(anchors))


def multiply(tokens: Tensor, anchors: Sequence[Tensor], memory: Tensor) -> list[Tensor]:
    """The products of tokens `(num_tokens, hidden)` with all anchors, in blocks that are written into a flat memory."""
    blocks, position = [], 0
    for block in anchors:
        size = len(tokens) * len(block)
        out = memory[position : position + size].view(len(tokens), len(block))
        blocks.append(torch.mm(tokens, block.T, out=out))
        position += size
    return blocks


def find_lengths(blocks: Sequence[Tensor]) -> Tensor:
    """The L2 norm of every token's entries, `(num_tokens,)`."""
    in_blocks = [torch.linalg.vector_norm(block, dim=-1) for block in blocks]
    lengths: Tensor = torch.linalg.vector_norm(torch.stack(in_blocks), dim=0)
    return lengths


def scale(blocks: Sequence[Tensor], factors: Tensor) -> Tensor:
    """Multiply every token's entries by its factor `(num_tokens,)`, in place; the greatest in each block, one a row."""
    return torch.stack([block.mul_(factors[:, None]).amax(dim=-1) for block in blocks])


def find_nearest(blocks: Sequence[Tensor], greatest: Tensor, wanted: Tensor) -> Tensor:
    """The anchor with the greatest entry, for some tokens.

    Args:
        blocks: The entries.
        greatest: In each block, `(num_blocks, num_tokens)`.
        wanted: Of which tokens, `(num_tokens,)` bool.

    Returns:
        Positions among the anchors `(num_tokens,)`, int64; 0 for the other tokens.
    """
    where = greatest.argmax(dim=0)
    nearest, position = torch.zeros_like(where), 0
    for index, block in enumerate(blocks):
        tokens = ((where == index) & wanted).nonzero().squeeze(1)
        nearest[tokens] = block[tokens].argmax(dim=-1) + position
        position += block.shape[1]
    return nearest


def pick(blocks: Sequence[Tensor], anchors: Tensor) -> Tensor:
    """Every token's entry at an anchor of its own `(num_tokens,)`, int64."""
    picked, position = blocks[0].new_empty(len(anchors)), 0
    for block in blocks:
        tokens = ((anchors >= position) & (anchors < position + block.shape[1])).nonzero().squeeze(1)
        picked[tokens] = block[tokens, anchors[tokens] - position]
        position += block.shape[1]
    return picked


def exponentiate(blocks: Sequence[Tensor], greatest: Tensor) -> Tensor:
    """Make each entry the exponential of what it lacks to the token's `greatest` `(num_tokens,)`; their sums."""
    totals = torch.zeros_like(greatest)
    for block in blocks:
        totals += block.sub_(greatest[:, None]).exp_().sum(dim=-1)
    return totals
