"""The dense references: relative fusion over every anchor, in float64, for a batch of recorded steps.

`fuse_candidates` searches over candidates, as the library does by default, and `fuse_densely` over every token. No
dense matrix need be held: its rows are made tile by tile, once for the target and once for each step of the search.
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

from deepen_llm.fusion.relative.inverse import (
    BETAS,
    EPSILON,
    LEAST_RESIDUAL,
    SCHEDULE_FLOOR,
    SCHEDULE_PERIOD,
    TINY,
    WEIGHT_DECAY,
    InverseSearch,
)
from deepen_llm.fusion.relative.isotropy import CommonPart
from deepen_llm.fusion.relative.member_space import MemberSpace
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


def fuse_candidates(
    members: Sequence[MemberSpace],
    logits: Sequence[Tensor],
    *,
    main: int,
    weights: Sequence[float],
    search: InverseSearch,
    max_candidates: int,
    progress: Report = lambda _: None,
) -> Tensor:
    """The same where the search runs over candidates: `fusion/relative/candidates.py` says what is computed.

    Args:
        members: One description a member.
        logits: `(num_steps, num_logits)` a member.
        main: Position of the main model.
        weights: One a member.
        search: The search and its constants.
        max_candidates: How many candidates, and through how many tokens every other member speaks.
        progress: Called with the share of the rows that are made.
    """
    count = _Counter(sum(len(member.allowed) for member in members) + len(logits[0]), progress)
    looks = [_Look(member, rows, count) for member, rows in zip(members, logits, strict=True)]
    own = looks[main]
    fused = sum((w * look.carried for w, look in zip(weights, looks, strict=True)), torch.zeros_like(own.carried))
    ratios = (fused / own.carried.clamp_min(TINY))[:, own.anchors]
    looked = own.probs * (1 + own.shares * (ratios - 1))
    found = []
    for step in range(len(looked)):
        candidates = looked[step].topk(min(max_candidates, looked.shape[1])).indices
        start, rows = own.few(step, candidates)
        target = weights[main] * start @ rows
        for look, weight in zip(looks, weights, strict=True):
            if look is not own:
                spoken = look.probs[step].topk(min(max_candidates, look.probs.shape[1])).indices
                shares, spoken_rows = look.few(step, spoken)
                target = target + weight * shares @ spoken_rows
        start = torch.cat([start[:-1], start[-1:].clamp_min(LEAST_RESIDUAL)]).log()
        result = search.run(start[None], rows, target[None], num_free=len(candidates))[0].exp()
        if search.kind == "gradient":
            others = own.probs[step] * (result[-1] / start[-1].exp())
            kept = result[:-1]
        else:
            others = looked[step]
            kept = result[:-1] * (others[candidates].sum() / result[:-1].sum())
        found.append(others.scatter(0, candidates, kept).log())
        count.add(1)
    return torch.log_softmax(torch.stack(found), dim=-1)


@final
class _Look:
    """What one pass over a member's rows tells of each token and each step."""

    def __init__(self, member: MemberSpace, logits: Tensor, count: _Counter) -> None:
        self._rows = RelativeRows(member, advance=count.add)
        self.probs = _read(member, logits).exp()
        anchor_ids, allowed = member.anchor_ids.to(logits.device), member.allowed.to(logits.device)
        self.anchors = torch.full_like(self.probs[0], -1, dtype=torch.int64)
        self.anchors[anchor_ids] = torch.arange(len(anchor_ids), device=logits.device)
        self.shares = torch.zeros_like(self.probs[0])
        self._mean = self.probs.new_zeros(self._rows.num_anchors)
        for rows, tile in self._rows:
            best = torch.where(self.anchors[rows] < 0, tile.argmax(dim=-1), self.anchors[rows])
            self.anchors[rows], self.shares[rows] = best, tile.gather(1, best[:, None]).squeeze(1)
            self._mean += tile[allowed[rows]].sum(dim=0) / allowed.sum()
        self.carried = self.probs.new_zeros(len(self.probs), self._rows.num_anchors)
        self.carried.index_add_(1, self.anchors, self.probs * self.shares)

    def few(self, step: int, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Probs and rows of some tokens at a step, and behind them of the rest."""
        probs = self.probs[step, token_ids]
        return (
            torch.cat([probs, (1 - probs.sum()).clamp_min(0)[None]]),
            torch.cat([self._rows.make(token_ids), self._mean[None]]),
        )


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
            tile = (
                self.make(torch.arange(rows.start, rows.stop, device=self._anchors.device))
                if kept is None
                else kept.double()
            )
            if self._keeps and kept is None:
                self._kept[begin] = tile.float()
            yield rows, tile
            self._advance(rows.stop - rows.start)

    def make(self, token_ids: Tensor) -> Tensor:
        """The softmax of 100 times the L2-normalized cosines to the anchors; uniform without an embedding."""
        embeddings = self._member.embeddings
        is_embedded = (token_ids < len(embeddings))[:, None]
        unit = self._unit_rows(embeddings[token_ids.clamp_max(len(embeddings) - 1)]) * is_embedded
        return torch.softmax(SHARPNESS * _unit(unit @ self._anchors.T), dim=-1)

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
