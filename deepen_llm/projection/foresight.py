"""Fewer passes for an expansion: what it will ask for is asked along with what it asks for now.

An expansion goes on a token a pass, as it must where nothing is known of what comes. But it goes only where the main
model expects a longer token: the beginnings of the main model's likely tokens, spelled as the member spells them, are
where it will be. All of them are asked in the pass in which the first ones are, and wait for their turn. What comes out
is what comes out level by level, to the rounding of batched passes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from functools import cached_property
from typing import final

from torch import Tensor

from deepen_llm.projection.limits import ExpansionLimits
from deepen_llm.projection.results import Path, Projection, Queries
from deepen_llm.projection.tables import ProjectionTables

LEAST_LIKELY = 0.01
"""How the member spells tokens of the main model is foreseen of those that have more than this."""
NUM_FORESEEN = 2
"""So many times the rows that are asked for may go along with them."""


@final
class Foresight:
    """What one expansion is likely to ask for."""

    def __init__(
        self,
        tables: ProjectionTables,
        limits: ExpansionLimits,
        pending: bytes,
        expected: Tensor,
        max_length: int | float = math.inf,
    ) -> None:
        """What the spelling of the main model's likely tokens is found from, once it is asked for.

        Args:
            tables: The member's.
            limits: Where expansion stops.
            pending: The bytes since the member's last boundary.
            expected: The main model's own probs `(num_main_logits,)`.
            max_length: The most tokens of a path that the member's context has room for.
        """
        self._max_rows, self._max_passes = NUM_FORESEEN * limits.max_rows, limits.max_passes
        self._max_length = max_length
        self._tables, self._pending, self._expected = tables, pending, expected
        self._least = max(limits.min_mass, LEAST_LIKELY)

    @cached_property
    def _likely(self) -> list[tuple[Path, float]]:
        """The main model's likely tokens as the member spells them, with their probabilities."""
        ids = (self._expected > self._least).nonzero().flatten()
        spelled = (self._tables.spell(self._pending, token_id) for token_id in ids.tolist())
        return list(zip(spelled, self._expected[ids].tolist(), strict=True))

    def run(self, queries: Queries) -> Queries:
        """The same queries in fewer passes, which the projection counts as they were made."""
        answers: dict[Path, Tensor] = {}
        num_rows = num_passes = 0
        try:
            wanted = next(queries)
            while True:
                if missing := [path for path in wanted if path not in answers]:
                    asked = missing + self._foresee(missing)
                    answers.update((yield asked))
                    num_rows, num_passes = num_rows + len(asked), num_passes + 1
                wanted = queries.send({path: answers[path] for path in wanted})
        except StopIteration as stop:
            projection: Projection = stop.value
            projection.num_rows, projection.num_passes = num_rows, num_passes
            return projection

    def _foresee(self, wanted: list[Path]) -> list[Path]:
        """The paths that will be asked for behind these, the likeliest first, as far as there is room in the pass."""
        weights: dict[Path, float] = defaultdict(float)
        for spelled, prob in self._likely:
            begin = next((len(path) for path in wanted if spelled[: len(path)] == path), len(spelled))
            most = min(len(spelled) - 1, begin + self._max_passes - 1, self._max_length)
            for end in range(begin + 1, int(most) + 1):
                weights[spelled[:end]] += prob
        found = sorted(weights, key=lambda path: -weights[path])
        return found[: int(self._max_rows)]
