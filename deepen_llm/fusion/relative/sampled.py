"""The sampled form of relative fusion, for vocabularies of any size: only what a step needs of the relative matrices.

Three things keep a step small:

1. **Few tokens.** Each other member speaks through its best tokens. The search runs over candidates: the main model's
   best tokens, and those that the other members' best tokens reach through their nearest anchors. What this leaves out
   of a distribution, its rest, counts as one more token, whose row is the mean row.
2. **Few anchors.** The sums over all anchors are replaced by a quadrature: the anchors that matter at this step, those
   nearest to the best tokens, count as they are; all others are represented by the fixed sample among them, each row's
   entries there scaled so that the row still sums to 1. Background entries differ by a factor of about 2 from anchor to
   anchor, so taking them all for equal would be a far worse approximation than a sample.
3. **No matrix.** Entries at the anchors that matter are computed from the embeddings, with a few numbers a token
   (`rows.py`); entries at the sample are looked up.

A main-model token that is no candidate keeps its share of what the search made of the rest. Shapes do not depend on the
values, so that a step can be captured in a CUDA graph. Each member works on its own device; what travels between
devices are token ids, anchor positions and the mixed relative probs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self, final

import torch
from torch import Tensor

from deepen_llm.fusion.relative.buffer import RowBuffer
from deepen_llm.fusion.relative.inverse import LEAST_REST, TINY, InverseSearch, mix
from deepen_llm.fusion.relative.isotropy import CommonPart
from deepen_llm.fusion.relative.member import MemberSpace
from deepen_llm.fusion.relative.rows import NUM_NEAREST, NUM_REACHED, RowTables, draw_sample
from deepen_llm.fusion.relative.space import SHARPNESS
from deepen_llm.fusion.relative.storage import TableStore, make_key

DEFAULT_CANDIDATES = 32
"""What `max_candidates=None` is here: all tokens cannot be searched over."""
SPOKEN_FACTOR = 1
"""A member speaks through so many times `max_candidates` tokens."""
OWN_FACTOR = 2
"""So many times `max_candidates` candidates are the main model's own best tokens."""
NUM_LEADING = 16
"""Tokens of each member whose several nearest anchors matter, and which reach for main-model tokens; of the other
spoken tokens only the nearest anchor matters."""
NUM_AROUND = 3
"""How many nearest anchors of a leading token matter."""
NUM_REACHING = 2
"""Through how many of its nearest anchors a leading token reaches for main-model tokens."""


@final
@dataclass(frozen=True, eq=False)
class Columns:
    """The anchors that stand for all at one step."""

    anchors: Tensor
    """Positions of those that matter, sorted, with repetitions: `(batch, num_mattering)` int64."""
    is_new: Tensor
    """False where a position repeats the one before it, same shape."""
    is_rest: Tensor
    """Which sampled anchors are not among them: `(batch, num_sampled)` bool."""

    @classmethod
    def choose(cls, anchors: Tensor, sample: Tensor) -> Self:
        """The columns for anchors `(batch, num)`, which may repeat."""
        anchors = anchors.sort(dim=-1).values
        place = torch.searchsorted(anchors, sample.expand(len(anchors), -1).contiguous())
        found = anchors.gather(1, place.clamp_max(anchors.shape[1] - 1))
        return cls(anchors, ~repeats(anchors), found != sample)

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return type(self)(self.anchors.to(device), self.is_new.to(device), self.is_rest.to(device))


@final
@dataclass(frozen=True, eq=False)
class SampledMember:
    """One member's tables and embeddings, on the member's device."""

    weight: float
    embeddings: Tensor
    """The model's own, `(num_rows, hidden)`."""
    anchor_ids: Tensor
    """`(num_anchors,)` int64."""
    sample: Tensor
    """`(num_sampled,)` int64."""
    tables: RowTables
    token_buffer: RowBuffer = field(default_factory=RowBuffer)
    anchor_buffer: RowBuffer = field(default_factory=RowBuffer)

    @classmethod
    def build(
        cls,
        space: MemberSpace,
        weight: float,
        *,
        store: TableStore | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Self:
        """The tables from the store, or else built and stored there.

        Raises:
            NumericalError: An embedding holds NaN or infinity.
        """
        home = space.embeddings.device
        sample = draw_sample(len(space.anchor_ids)).to(home)
        key = "" if store is None else _make_key(space, sample)
        kept = None if store is None else store.load(key)
        if kept is not None:
            tables = RowTables.restore(kept, home)
        else:
            common = CommonPart.measure(space.embeddings, space.removed_directions)
            tables = RowTables.build(space, common, sample, progress)
            if store is not None:
                store.save(key, tables.tensors())
        return cls(weight, space.embeddings.detach(), space.anchor_ids.to(home), sample, tables)

    @property
    def num_bytes(self) -> int:
        """Memory of the tables; the embeddings are the model's."""
        return self.tables.num_bytes + self.anchor_ids.nbytes + self.sample.nbytes

    def mattering(self, token_ids: Tensor) -> Tensor:
        """The anchors that matter for tokens `(batch, num_tokens)`, best first: `(batch, num)` int64."""
        nearest = pick(self.tables.nearest, token_ids)
        around = nearest[:, :NUM_LEADING, 1:NUM_AROUND].flatten(1)
        return torch.cat([nearest[:, :, 0], around], dim=1).long()

    def reach(self, token_ids: Tensor, main: SampledMember) -> Tensor:
        """Main-model tokens, -1 for none, that the best of these tokens `(batch, num_tokens)` reach."""
        anchors = pick(self.tables.nearest, token_ids[:, :NUM_LEADING])[..., :NUM_REACHING].flatten(1).long()
        return pick(main.tables.reached, anchors.to(main.tables.reached.device)).flatten(1).long()

    def rows(self, token_ids: Tensor, columns: Columns) -> Tensor:
        """The rows at the columns of tokens `(batch, num_tokens)`, and the mean row behind them.

        Returns:
            Probs `(batch, num_tokens + 1, num_mattering + num_sampled)`, float32.
        """
        tables, batch = self.tables, len(token_ids)
        anchor_ids = pick(self.anchor_ids, columns.anchors)
        last = len(self.embeddings) - 1  # a token without an embedding has a scale of 0: any other's will do
        tokens = self.token_buffer.gather(self.embeddings, token_ids.clamp_max(last))
        anchors = self.anchor_buffer.gather(self.embeddings, anchor_ids.clamp_max(last))
        shared, anchor_shared = pick(tables.shared, token_ids), pick(tables.shared, anchor_ids)
        entries = torch.bmm(tokens, anchors.transpose(1, 2))
        entries.baddbmm_(shared[..., 1:], anchor_shared[..., 1:].transpose(1, 2), alpha=-1)
        entries.sub_(shared[..., :1]).sub_(anchor_shared[:, None, :, 0])
        entries.mul_(pick(tables.inverse_lengths, anchor_ids)[:, None]).mul_(pick(tables.scales, token_ids)[..., None])
        entries.sub_(pick(tables.log_totals, token_ids)[..., None]).exp_()
        entries = torch.cat([entries, pick(tables.mean_row, columns.anchors)[:, None]], dim=1)
        entries *= columns.is_new[:, None]
        mean = tables.mean_row[self.sample].expand(batch, 1, -1)
        sampled = torch.cat([pick(tables.sampled, token_ids).float().exp_(), mean], dim=1)
        sampled *= columns.is_rest[:, None]
        left = (1 - entries.sum(dim=-1, keepdim=True)).clamp_min_(0)
        sampled *= left / sampled.sum(dim=-1, keepdim=True).clamp_min_(TINY)
        return torch.cat([entries, sampled], dim=-1)

    def mix(self, probs: Tensor, token_ids: Tensor, columns: Columns) -> Tensor:
        """The weighted relative probs `(batch, num_columns)` of tokens' probs `(batch, num_tokens)` and their rest."""
        rest = (1 - probs.sum(dim=-1, keepdim=True)).clamp_min_(0)
        return self.weight * mix(torch.cat([probs, rest], dim=1), self.rows(token_ids, columns))


@final
class SampledForm:
    """Finds the main model's distribution from the rows that a step needs."""

    def __init__(
        self, members: Sequence[SampledMember], main: int, search: InverseSearch, max_candidates: int | None
    ) -> None:
        self.members = tuple(members)
        self._main = members[main]
        self._search = search
        self._max_candidates = max_candidates or DEFAULT_CANDIDATES

    def find(self, alone: Tensor, others: Sequence[tuple[int, Tensor]]) -> Tensor:
        """What the search finds: logprobs `(batch, num_logits)`, not normalized.

        Args:
            alone: The main model's logprobs `(batch, num_logits)`.
            others: Members by position, each with its logprobs `(batch, num_logits_i)` on its own device.
        """
        spoken = [(self.members[index], _best(rows, SPOKEN_FACTOR * self._max_candidates)) for index, rows in others]
        own = _best(alone, OWN_FACTOR * self._max_candidates)[1]
        columns = self._choose_columns(own, spoken)
        candidates, is_new = self._choose_candidates(own, spoken)
        start = alone.gather(1, candidates).masked_fill_(~is_new, -torch.inf)
        probs = start.exp()
        rest = (1 - probs.sum(dim=-1, keepdim=True)).clamp_min_(LEAST_REST)
        rows = self._main.rows(candidates, columns)
        target = self._main.weight * mix(torch.cat([probs, rest], dim=1), rows)
        for member, (shares, token_ids) in spoken:
            mixed = member.mix(shares.exp(), token_ids, columns.to(token_ids.device))
            target = target + mixed.to(target.device)
        start = torch.cat([start, rest.log_()], dim=1)
        num_anchors = len(self._main.anchor_ids)
        found = self._search.run(start, rows, target, num_free=candidates.shape[1], num_anchors=num_anchors)
        once = found[:, :-1].gather(1, first_of_each(is_new))  # a repetition writes what the first wrote
        return (alone + (found[:, -1:] - start[:, -1:])).scatter_(1, candidates, once)

    def _choose_columns(self, own: Tensor, spoken: Sequence[tuple[SampledMember, tuple[Tensor, Tensor]]]) -> Columns:
        """The anchors nearest to what the members say."""
        num_spoken = SPOKEN_FACTOR * self._max_candidates
        mattering = [self._main.mattering(own[:, :num_spoken])]
        mattering += [member.mattering(token_ids).to(own.device) for member, (_, token_ids) in spoken]
        return Columns.choose(torch.cat(mattering, dim=1), self._main.sample)

    def _choose_candidates(
        self, own: Tensor, spoken: Sequence[tuple[SampledMember, tuple[Tensor, Tensor]]]
    ) -> tuple[Tensor, Tensor]:
        """Main-model tokens `(batch, num_candidates)`, sorted, and which of them is no repetition."""
        reached = [member.reach(token_ids, self._main).to(own.device) for member, (_, token_ids) in spoken]
        candidates = torch.cat([own, *reached], dim=1)
        candidates = torch.where(candidates < 0, own[:, :1], candidates).sort(dim=-1).values
        return candidates, ~repeats(candidates)


def pick(table: Tensor, positions: Tensor) -> Tensor:
    """`table[positions]`, which on CPU takes a third of the time this way."""
    return table.index_select(0, positions.flatten()).view(*positions.shape, *table.shape[1:])


def repeats(positions: Tensor) -> Tensor:
    """Which of sorted positions `(batch, num)` equal the one before."""
    is_first = torch.zeros_like(positions[:, :1], dtype=torch.bool)
    return torch.cat([is_first, positions[:, 1:] == positions[:, :-1]], dim=1)


def first_of_each(is_new: Tensor) -> Tensor:
    """For each place `(batch, num)` the last place up to it that is new."""
    places = torch.arange(is_new.shape[1], device=is_new.device)
    return (places * is_new).cummax(dim=-1).values


def _best(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best values of each row and where they are."""
    best = values.topk(min(count, values.shape[-1]), dim=-1)
    return best.values, best.indices


def _make_key(space: MemberSpace, sample: Tensor) -> str:
    """Names everything that the tables depend on."""
    return make_key(
        {
            "embeddings": space.embeddings,
            "anchor_ids": space.anchor_ids,
            "allowed": space.allowed,
            "removed_directions": space.removed_directions,
            "sample": sample,
            "layout": repr((SHARPNESS, NUM_NEAREST, NUM_REACHED)),
        }
    )
