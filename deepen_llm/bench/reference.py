"""The dense reference: relative fusion over every token and every anchor, in float64, for a batch of recorded steps.

No dense matrix need be held: its rows are made tile by tile, once for the target and once for each step of the search.
One pass is enough for a step, since what the search makes of a token depends on that token's row and on sums that the
pass before has left; the same tile then adds the token's new share to the next sums. Where the main model's matrix fits
into the memory allowed, its tiles are kept in float32 after the first pass. It is slow, and it decides what the quick
forms are measured against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, final

import torch
from torch import Tensor

from deepen_llm.fusion.relative import MemberSpace
from deepen_llm.fusion.relative.inverse import (
    BETAS,
    EPSILON,
    SCHEDULE_FLOOR,
    SCHEDULE_PERIOD,
    TINY,
    WEIGHT_DECAY,
    InverseSearch,
)
from deepen_llm.fusion.relative.isotropy import CommonPart
from deepen_llm.fusion.relative.space import SHARPNESS

TILE_ENTRIES = 1 << 22
"""Entries of a matrix that are made at a time, 32 MiB of them."""
LEAST_LOGIT = -1e30
"""In place of `-inf`, which AdamW's weight decay would make NaN of."""

Report = Callable[[float], None]


def fuse_densely(
    members: Sequence[MemberSpace],
    logits: Sequence[Tensor],
    *,
    main: int,
    weights: Sequence[float],
    search: InverseSearch,
    max_kept_bytes: float = 0.0,
    progress: Report = lambda _: None,
) -> Tensor:
    """The fused logprobs `(num_steps, num_logits)` of the main model, float64, on its device.

    End-of-sequence counts as any token, and the answer is trusted wholly.

    Args:
        members: One description a member.
        logits: `(num_steps, num_logits)` a member.
        main: Position of the main model.
        weights: One a member.
        search: The search and its constants.
        max_kept_bytes: The main model's tiles are kept, rounded to float32, if they take no more than this.
        progress: Called with the share of the rows that are made.
    """
    device = members[main].embeddings.device
    passes = [1 + search.num_steps if index == main else 1 for index in range(len(members))]
    sizes = [count * len(member.allowed) for count, member in zip(passes, members, strict=True)]
    count = _Counter(sum(sizes), progress)
    rows_of = [
        RelativeRows(member, max_kept_bytes if index == main else 0.0, count.add)
        for index, member in enumerate(members)
    ]
    logprobs = [_read(member, rows) for member, rows in zip(members, logits, strict=True)]
    mixed = [mix(own.exp(), rows) for own, rows in zip(logprobs, rows_of, strict=True)]
    target = sum((w * own.to(device) for w, own in zip(weights, mixed, strict=True)), torch.zeros_like(mixed[main]))
    state: SearchState
    if search.kind == "gradient":
        state = GradientState(logprobs[main], target, search.learning_rate)
    else:
        state = MultiplicativeState(logprobs[main])
    return run_search(state, rows_of[main], target, mixed[main], search.num_steps)


def mix(probs: Tensor, rows_of: RelativeRows) -> Tensor:
    """`probs @ matrix`, `(num_steps, num_anchors)` float64."""
    mixed = probs.new_zeros(len(probs), rows_of.num_anchors)
    for rows, tile in rows_of:
        mixed.addmm_(probs[:, rows], tile)
    return mixed


class SearchState(Protocol):
    """Where a search is: it moves tile by tile."""

    def advance(self, rows: slice, pulled: Tensor, step: int) -> Tensor:
        """Move these tokens by one step, given `R @ (r / q)` of them, `(num_steps, tile)`.

        Returns:
            Their new probs times any number that is the same for every token of a row, `(num_steps, tile)`.
        """

    def finish(self) -> Tensor:
        """The logprobs, `(num_steps, num_logits)`."""


def run_search(state: SearchState, rows_of: RelativeRows, target: Tensor, mixed: Tensor, num_steps: int) -> Tensor:
    """Search from where `p R` is `mixed`; one pass over the rows a step."""
    for step in range(1, num_steps + 1):
        ratios = target / mixed.clamp_min(TINY)
        mixed, total = torch.zeros_like(mixed), torch.zeros_like(mixed[:, :1])
        for rows, tile in rows_of:
            shares = state.advance(rows, ratios @ tile.T, step)
            mixed.addmm_(shares, tile)
            total += shares.sum(dim=-1, keepdim=True)
        mixed /= total
    return state.finish()


@final
class MultiplicativeState:
    """p <- p * (R @ (r / (p R)))."""

    def __init__(self, logprobs: Tensor) -> None:
        self._logprobs = logprobs.clone()

    def advance(self, rows: slice, pulled: Tensor, step: int) -> Tensor:
        """See `SearchState`."""
        del step
        self._logprobs[:, rows] += pulled.log()
        return self._logprobs[:, rows].exp()

    def finish(self) -> Tensor:
        """See `SearchState`."""
        return torch.log_softmax(self._logprobs, dim=-1)


@final
class GradientState:
    """AdamW on the logits, with its constants and schedule as published; see `gradient_search` for the gradient."""

    def __init__(self, logprobs: Tensor, target: Tensor, learning_rate: float) -> None:
        self._is_out = torch.isinf(logprobs)
        self._logits = logprobs.masked_fill(self._is_out, LEAST_LOGIT)
        self._mean, self._square = torch.zeros_like(logprobs), torch.zeros_like(logprobs)
        self._target_sum, self._num_anchors = target.sum(dim=-1, keepdim=True), target.shape[1]
        self._learning_rate = learning_rate
        self._step, self._totals = 0, torch.zeros_like(logprobs[:, :1])

    def advance(self, rows: slice, pulled: Tensor, step: int) -> Tensor:
        """See `SearchState`."""
        if step != self._step:
            self._step, self._totals = step, self._logits.logsumexp(dim=-1, keepdim=True)
        logits, mean, square = self._logits[:, rows], self._mean[:, rows], self._square[:, rows]
        gradient = (logits - self._totals).exp() * (self._target_sum - pulled) / self._num_anchors
        mean.lerp_(gradient, 1 - BETAS[0])
        square.lerp_(gradient * gradient, 1 - BETAS[1])
        floor = SCHEDULE_FLOOR * self._learning_rate
        rate = floor + (self._learning_rate - floor) * (1 + math.cos(math.pi * (step - 1) / SCHEDULE_PERIOD)) / 2
        logits *= 1 - rate * WEIGHT_DECAY
        logits -= rate * (mean / (1 - BETAS[0] ** step)) / ((square / (1 - BETAS[1] ** step)).sqrt() + EPSILON)
        return (logits - self._totals).exp()

    def finish(self) -> Tensor:
        """See `SearchState`."""
        return torch.log_softmax(self._logits.masked_fill(self._is_out, -torch.inf), dim=-1)


@final
class RelativeRows:
    """A member's relative rows, in tiles of float64 `(tile, num_anchors)`; made at each pass unless they are kept."""

    def __init__(
        self, member: MemberSpace, max_kept_bytes: float = 0.0, advance: Callable[[int], None] = lambda _: None
    ) -> None:
        """`advance` is called with the number of rows of each tile."""
        self._member, self._advance = member, advance
        home = member.embeddings.device
        self._common = CommonPart.measure(member.embeddings, member.removed_directions)
        self._anchors = self._unit_rows(member.embeddings[member.anchor_ids.to(home)])
        self.num_tokens, self.num_anchors = len(member.allowed), len(self._anchors)
        self._keeps = 4 * self.num_tokens * self.num_anchors <= max_kept_bytes
        self._kept: dict[int, Tensor] = {}

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """Where a tile's rows are, and the tile."""
        size = max(1, TILE_ENTRIES // self.num_anchors)
        for begin in range(0, self.num_tokens, size):
            rows = slice(begin, min(begin + size, self.num_tokens))
            kept = self._kept.get(begin)
            tile = self._make(rows) if kept is None else kept.double()
            if self._keeps and kept is None:
                self._kept[begin] = tile.float()
            yield rows, tile
            self._advance(rows.stop - rows.start)

    def _make(self, rows: slice) -> Tensor:
        """The softmax of 100 times the L2-normalized cosines to the anchors; uniform without an embedding."""
        cosines = self._unit_rows(self._member.embeddings[rows]) @ self._anchors.T
        entries = torch.softmax(SHARPNESS * _unit(cosines), dim=-1)
        missing = rows.stop - rows.start - len(entries)
        return torch.cat([entries, entries.new_full((missing, self.num_anchors), 1 / self.num_anchors)])

    def _unit_rows(self, embeddings: Tensor) -> Tensor:
        return _unit(self._common.remove(embeddings.detach()).double())


@final
class _Counter:
    """Turns numbers of rows into a share of all."""

    def __init__(self, total: int, progress: Report) -> None:
        self._total, self._progress, self._done = total, progress, 0

    def add(self, count: int) -> None:
        self._done += count
        self._progress(self._done / self._total)


def _read(member: MemberSpace, logits: Tensor) -> Tensor:
    """Logprobs in float64 over the tokens that may come, where the member's embeddings are."""
    home = member.embeddings.device
    return torch.log_softmax(logits.to(home).double().masked_fill(~member.allowed.to(home), -torch.inf), dim=-1)


def _unit(rows: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / torch.where(norms > 0, norms, 1.0)
