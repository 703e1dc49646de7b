"""Relative fusion: the members' distributions, averaged in the relative space, searched back into the main model's.

One step (arXiv 2404.12715, section 3):

    r = sum_i weight_i p_i R_i          the target: fused relative probs
    p' = the inverse search of r        starting at the main model's p (`inverse.py`)

What was projected onto the main model's tokens is averaged as it is: where the text itself says which token is meant,
the way through the anchors could only blur it. That mean is what the search starts from, and what is left of it enters
by the member's own rows: what the main model's tokens cannot express. Without such a rest the mean is the answer. With
`maps="all"`, what was projected enters the relative space, too, by the main model's rows; what was not projected at all
does so in any case.

The search runs over candidates (`candidates.py`) or, where asked for, over every token (`dense.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, final

from torch import Tensor

from deepen_llm.fusion.base import FusionMethod, Step
from deepen_llm.fusion.relative.candidates import Contribution, MemberTables, Search
from deepen_llm.fusion.relative.inverse import TINY


@final
class RelativeFusion(FusionMethod):
    """DeePEn. One thread at a time may fuse: memory is used again from step to step."""

    def __init__(
        self,
        search: Search | None,
        main: int,
        *,
        form: Literal["dense", "sampled"] | None,
        maps_all: bool = False,
        build_s: float = 0.0,
    ) -> None:
        """Take the search over the members' tables.

        Args:
            search: What maps back from the relative space; None where nothing can need it.
            main: Position of the main model.
            form: How the search's tables hold the relative matrices.
            maps_all: What was projected goes through the relative space, too.
            build_s: Seconds that making them took.
        """
        self._search, self._main, self._maps_all = search, main, maps_all
        self.form, self.build_s = form, build_s

    @property
    def member_bytes(self) -> tuple[int, ...]:
        """Memory of each member's tables."""
        return () if self._search is None else tuple(tables.num_bytes for tables in self._search.members)

    @property
    def num_bytes(self) -> int:
        """Memory of all tables."""
        return sum(self.member_bytes)

    def combine(self, step: Step) -> Tensor:
        """See `FusionMethod.combine`. Shapes are fixed, and nothing but moves between devices waits for one."""
        if not self._maps_all and any(other.projected is not None for other in step.others):
            step = _average_projected(step)
        if self._search is None or not step.others:
            return step.logprobs
        return self._search.find(step, list(self._contributions(step, self._search.members)))

    def _contributions(self, step: Step, tables: Sequence[MemberTables]) -> Iterator[Contribution]:
        for other in step.others:
            weight = step.weight(other.member)
            if other.projected is not None:
                yield Contribution(tables[self._main], weight, other.projected)
            if other.own is not None:
                yield Contribution(tables[other.member], weight, other.own)


def _average_projected(step: Step) -> Step:
    """The step with the mean of what was projected in place of the main model's distribution, and all its weight."""
    mean = step.weight(step.main) * step.probs
    for other in step.others:
        if other.projected is not None:
            mean = mean.addcmul(step.weight(other.member), other.projected)
    mass = mean.sum(dim=-1, keepdim=True)
    probs = mean / mass.clamp_min(TINY)
    weights = step.weights.clone()
    weights[:, step.main] = mass[:, 0]
    rest = [replace(other, projected=None) for other in step.others if other.own is not None]
    return replace(step, probs=probs, logprobs=probs.log(), weights=weights, others=rest)
