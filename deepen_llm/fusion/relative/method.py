"""Relative fusion: the members' distributions, averaged in the relative space, searched back into the main model's.

One step (arXiv 2404.12715, section 3):

    r = sum_i weight_i p_i R_i          the target: fused relative probs
    p' = the inverse search of r        starting at the main model's p (`inverse.py`)

The search runs over candidates (`candidates.py`) or, where asked for, over every token. Two forms hold the rows:
`dense.py` keeps every row of the matrices R, `sampled.py` makes the rows that a step needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal, final

import torch
from torch import Tensor

from deepen_llm.errors import ConfigError
from deepen_llm.fusion.base import Reading, ReadingMethod
from deepen_llm.fusion.relative.candidates import CandidateForm, MemberTables, Voice
from deepen_llm.fusion.relative.dense import DenseTables, ExactForm
from deepen_llm.fusion.relative.inverse import InverseSearch
from deepen_llm.fusion.relative.member import MemberReader, MemberSpace
from deepen_llm.fusion.relative.sampled import SampledTables, draw_sample
from deepen_llm.fusion.relative.storage import TableStore
from deepen_llm.fusion.weights import Share, counts, keep_alone, share_out

__all__ = ["MemberSpace", "RelativeFusion"]

Form = Literal["auto", "dense", "sampled"]

DENSE_ENTRIES = 1 << 23
"""The most entries of a relative matrix, 32 MiB of them, with which "auto" takes the dense form."""

DEFAULT_CANDIDATES = 32
"""What `max_candidates=None` is in the sampled form: not every token can be searched over there."""


@final
class RelativeFusion(ReadingMethod):
    """DeePEn. The settings are those of `deepen_llm.config.FusionConfig`, where each is explained.

    One thread at a time may fuse: memory is used again from step to step.
    """

    def __init__(
        self,
        members: Sequence[MemberSpace],
        *,
        main: int,
        weights: Sequence[float],
        search: Literal["multiplicative", "gradient"],
        num_steps: int,
        learning_rate: float,
        trust: float,
        main_ends: bool,
        align_eos: bool,
        max_candidates: int | None,
        form: Form = "auto",
        store: TableStore | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        """Build every member's tables.

        Args:
            members: One description a member; their embeddings may lie on different devices.
            main: Position of the main model.
            weights: One a member, not negative, summing to 1.
            search: `gradient` is the published one.
            num_steps: Steps of the search.
            learning_rate: Of the gradient search.
            trust: From 0, the main model alone, to 1, what the search found; in logprobs.
            main_ends: Leave a row to the main model where its own best token is end-of-sequence.
            align_eos: Fold each member's end-of-sequence ids into its first, and make that one an anchor.
            max_candidates: How many tokens each member speaks through and the search runs over; None: every token in
                the dense form, as many as by default in the sampled one.
            form: "dense" needs `num_logits * num_anchors` float32 a member; "auto" takes it where that is little.
            store: Where the tables of the sampled form are kept between runs.
            progress: Called with the share of the build that is done.

        Raises:
            ConfigError: The members disagree in their anchors, or `align_eos` finds a member without end-of-sequence.
            NumericalError: An embedding holds NaN or infinity.
        """
        _check_members(members, align_eos=align_eos)
        begin = time.perf_counter()
        self.search: Literal["multiplicative", "gradient"] = search
        self.num_steps, self.learning_rate, self.trust = num_steps, learning_rate, trust
        self.main_ends, self.max_candidates = main_ends, max_candidates
        self.device = members[main].embeddings.device
        self._main_index = main
        self._readers = [
            MemberReader.build(space, weight, align_eos=align_eos)
            for space, weight in zip(members, weights, strict=True)
        ]
        spaces = [space.with_eos_anchor() for space in members] if align_eos else list(members)
        inverse = InverseSearch(search, num_steps, learning_rate)
        self.form: Literal["dense", "sampled"] = choose_form(spaces) if form == "auto" else form
        self._form = self._build_form(spaces, inverse, store, progress)
        self.build_s = time.perf_counter() - begin
        """Seconds that the tables took."""

    def _build_form(
        self,
        spaces: Sequence[MemberSpace],
        search: InverseSearch,
        store: TableStore | None,
        progress: Callable[[float], None] | None,
    ) -> CandidateForm | ExactForm:
        """The members' tables, and what searches over them."""
        main, max_candidates = self._main_index, self.max_candidates
        if self.form == "dense":
            dense = [DenseTables.build(space, self.device) for space in spaces]
            if max_candidates is None:
                return ExactForm(dense, main, search)
            return CandidateForm(dense, main, search, max_candidates)
        sampled = [
            SampledTables.build(space, store=store, progress=_part_of(progress, index, len(spaces)))
            for index, space in enumerate(spaces)
        ]
        sample = draw_sample(len(spaces[main].anchor_ids)).to(self.device)
        return CandidateForm(sampled, main, search, max_candidates or DEFAULT_CANDIDATES, sample)

    @property
    def member_bytes(self) -> tuple[int, ...]:
        """Memory of each member's tables."""
        tables: Sequence[MemberTables] = self._form.members
        return tuple(table.num_bytes + reader.num_bytes for table, reader in zip(tables, self._readers, strict=True))

    @property
    def num_bytes(self) -> int:
        """Memory of all tables."""
        return sum(self.member_bytes)

    def fuse(self, logits: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
        """See `FusionMethod.fuse`. Shapes are fixed, and nothing waits for a device but the moves between devices."""
        alone, shares = self._read_main(logits[self._main_index]), self._share_out(weights)
        voices = [
            Voice(self._form.members[index], shares[index], self._readers[index].read_probs(logits[index]))
            for index in self._others(shares)
        ]
        return self._fuse(alone, shares[self._main_index], voices)

    def fuse_readings(
        self, logits: Tensor, readings: Sequence[Reading | None], weights: Tensor | None = None
    ) -> Tensor:
        """See `ReadingMethod`.

        A reading enters the relative space through the main model's rows, its rest through the member's own.
        """
        alone, shares = self._read_main(logits), self._share_out(weights)
        probs, voices, tables = alone.exp(), [], self._form.members
        for index in self._others(shares):
            if (reading := readings[index]) is None:
                continue
            read = self._fold_ends(reading.probs.to(self.device))
            if reading.speaks is not None:
                read = torch.where(reading.speaks.to(self.device)[:, None], read, probs)
            voices.append(Voice(tables[self._main_index], shares[index], read))
            if reading.rest is not None:
                voices.append(Voice(tables[index], shares[index], reading.rest))
        return self._fuse(alone, shares[self._main_index], voices)

    def _fold_ends(self, probs: Tensor) -> Tensor:
        """Probs over the main model's tokens, with its ends of sequence as one where its own are."""
        reader = self._readers[self._main_index]
        if not reader.folds_eos:
            return probs
        ids = reader.eos_ids.to(probs.device)
        together = probs.index_select(1, ids).sum(dim=-1, keepdim=True)
        return probs.index_fill(1, ids, 0.0).index_copy(1, ids[:1], together)

    def _share_out(self, weights: Tensor | None) -> list[Share]:
        return share_out([reader.weight for reader in self._readers], weights, self.device)

    def _others(self, shares: Sequence[Share]) -> list[int]:
        """Members with a weight, but for the main model."""
        return [index for index, share in enumerate(shares) if index != self._main_index and counts(share)]

    def _read_main(self, logits: Tensor) -> Tensor:
        return self._readers[self._main_index].read(logits).to(self.device)

    def _fuse(self, alone: Tensor, share: Share, voices: Sequence[Voice]) -> Tensor:
        """The fused logprobs `(batch, num_logits)`; `share` is the main model's."""
        reader = self._readers[self._main_index]
        if self.trust == 0 or self.num_steps == 0 or not voices:
            return alone
        fused = keep_alone(share, alone, self._form.find(alone, share, voices))
        if self.trust < 1:
            fused = torch.log_softmax((1 - self.trust) * alone + self.trust * fused, dim=-1)
        return torch.where(reader.ends(alone), alone, fused) if self.main_ends else fused


def choose_form(members: Sequence[MemberSpace]) -> Literal["dense", "sampled"]:
    """The dense form where every member's matrix is small."""
    largest = max(len(member.allowed) * len(member.anchor_ids) for member in members)
    return "dense" if largest <= DENSE_ENTRIES else "sampled"


def _part_of(progress: Callable[[float], None] | None, index: int, count: int) -> Callable[[float], None]:
    """The progress of one of several builds, as a share of all."""

    def advance(done: float) -> None:
        if progress is not None:
            progress((index + done) / count)

    return advance


def _check_members(members: Sequence[MemberSpace], *, align_eos: bool) -> None:
    numbers = [len(member.anchor_ids) for member in members]
    if len(set(numbers)) != 1 or numbers[0] == 0:
        raise ConfigError(
            f"every member must name the same anchors, one at least; got {numbers} anchors: "
            "pass anchor_ids of equal length"
        )
    without = [i for i, member in enumerate(members) if not member.eos_ids]
    if align_eos and without:
        raise ConfigError(
            f"align_eos needs an end-of-sequence token in every member; members {without} have none: "
            "set align_eos=False"
        )
