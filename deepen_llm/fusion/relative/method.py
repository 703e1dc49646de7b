"""Relative fusion: the members' distributions, averaged in the relative space, searched back into the main model's.

One step (arXiv 2404.12715, section 3):

    r = sum_i weight_i p_i R_i          the target: fused relative probs
    p' = the inverse search of r        starting at the main model's p (`inverse.py`)

What was projected onto the main model's tokens enters by the main model's rows, what was not by the member's own. The
search runs over candidates (`candidates.py`) or, where asked for, over every token (`dense.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, final

from torch import Tensor

from deepen_llm.fusion.base import FusionMethod, Step
from deepen_llm.fusion.relative.candidates import Contribution, Search


@final
class RelativeFusion(FusionMethod):
    """DeePEn. One thread at a time may fuse: memory is used again from step to step."""

    def __init__(self, search: Search, main: int, *, form: Literal["dense", "sampled"], build_s: float = 0.0) -> None:
        """Take the search over the members' tables.

        Args:
            search: What maps back from the relative space.
            main: Position of the main model.
            form: How the search's tables hold the relative matrices.
            build_s: Seconds that making them took.
        """
        self._search, self._main = search, main
        self.form, self.build_s = form, build_s

    @property
    def member_bytes(self) -> tuple[int, ...]:
        """Memory of each member's tables."""
        return tuple(tables.num_bytes for tables in self._search.members)

    @property
    def num_bytes(self) -> int:
        """Memory of all tables."""
        return sum(self.member_bytes)

    def combine(self, step: Step) -> Tensor:
        """See `FusionMethod.combine`. Shapes are fixed, and nothing but moves between devices waits for one."""
        return self._search.find(step, list(self._contributions(step)))

    def _contributions(self, step: Step) -> Iterator[Contribution]:
        tables = self._search.members
        for other in step.others:
            weight = step.weight(other.member)
            if other.projected is not None:
                yield Contribution(tables[self._main], weight, other.projected)
            if other.own is not None:
                yield Contribution(tables[other.member], weight, other.own)
