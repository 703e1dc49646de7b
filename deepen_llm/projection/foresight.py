"""Fewer passes for an expansion: what it will ask for is asked along with what it asks for now.

An expansion goes on a token a pass, as it must where nothing is known of what comes. But it goes only where the main
model expects a longer token: the beginnings of the main model's likely tokens, spelled as the member spells them, are
where it will be. All of them are asked in the pass in which the first ones are, and wait for their turn. So are those
of the steps that follow, as far as members have read ahead of the text. What comes out is what comes out level by
level, to the rounding of batched passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, final

from torch import Tensor

from deepen_llm.projection.limits import ExpansionLimits
from deepen_llm.projection.results import Path, Projection, Queries
from deepen_llm.projection.tables import ProjectionTables

LEAST_LIKELY = 0.01
"""How the member spells tokens of the main model is foreseen of those that have more than this."""
NUM_FORESEEN = 3
"""So many times the rows that may be asked for at once may go along with them."""


class Later(NamedTuple):
    """A place of a text that was read ahead."""

    path: Path
    """The member's tokens from its last boundary to there."""
    expected: Tensor
    """The main model's probs there `(num_main_logits,)`."""


@final
@dataclass(frozen=True, eq=False)
class Outlook:
    """What is known of a text beyond its end."""

    answers: dict[Path, Tensor] = field(default_factory=dict)
    """The member's probs `(num_logits,)` after paths that nothing has asked for yet; what is foreseen is added."""
    look: Callable[[], Sequence[Later]] = tuple
    """Adds what was read ahead to the answers, and finds the places that come next should the text go on like that.
    Called once something is asked that is not among the answers."""


@final
class Foresight:
    """What one expansion is likely to ask for."""

    def __init__(
        self,
        tables: ProjectionTables,
        limits: ExpansionLimits,
        pending: bytes,
        expected: Tensor,
        *,
        known: Mapping[Path, Tensor] | None = None,
        max_length: int | float = math.inf,
        outlook: Outlook | None = None,
    ) -> None:
        """Take what it is found from, once something is asked.

        Args:
            tables: The member's.
            limits: Where expansion stops.
            pending: The bytes since the member's last boundary.
            expected: The main model's own probs `(num_main_logits,)`.
            known: The member's probs after paths that were expanded before.
            max_length: The most tokens of a path that the member's context has room for.
            outlook: What is known beyond the text.
        """
        self._tables, self._limits = tables, limits
        self._pending, self._expected = pending, expected
        self._known = {} if known is None else known
        self._max_length, self._outlook = max_length, outlook or Outlook()

    def run(self, queries: Queries) -> Queries:
        """The same queries in fewer passes, which the projection counts as they were made."""
        answers = self._outlook.answers
        num_rows = num_passes = 0
        try:
            wanted = next(queries)
            while True:
                if not answers.keys() >= {*wanted}:
                    _ = self._later  # what was read ahead is an answer, too
                if missing := [path for path in wanted if path not in answers]:
                    asked = missing + self._foresee(wanted)
                    answers.update((yield asked))
                    num_rows, num_passes = num_rows + len(asked), num_passes + 1
                wanted = queries.send({path: answers[path] for path in wanted})
        except StopIteration as stop:
            projection: Projection = stop.value
            projection.num_rows, projection.num_passes = num_rows, num_passes
            return projection

    def _foresee(self, wanted: Sequence[Path]) -> list[Path]:
        """The paths that will be asked for behind these, the likeliest first, and then those of later places."""
        found = dict.fromkeys(path for weights in self._weigh(wanted) for path in sorted(weights, key=_by(weights)))
        new = [path for path in found if path not in wanted and self._find(path) is None]
        return [path for path in new if len(path) <= self._max_length][: int(NUM_FORESEEN * self._limits.max_rows)]

    def _weigh(self, wanted: Sequence[Path]) -> Iterator[dict[Path, float]]:
        """Place by place, how much the main model expects behind paths that may be asked for."""
        yield self._sum_up((), self._likely, wanted)
        for path, expected in self._later:
            yield self._sum_up(path, self._spell(b"", expected), ())

    def _sum_up(self, before: Path, likely: Sequence[tuple[Path, float]], wanted: Sequence[Path]) -> dict[Path, float]:
        """What the main model expects behind the ways to its likely tokens that the member may go.

        A way ends where it is known that the member does not go on with it, and does not begin where nothing is known
        nor asked for.
        """
        weights: dict[Path, float] = dict.fromkeys(wanted, 0.0)
        for spelled, prob in likely:
            num_new = 0
            for end in range(1, len(spelled)):
                path = before + spelled[:end]
                num_new += self._find(path) is None
                if num_new > self._limits.max_passes or not (path in weights or self._may_go(path, weights)):
                    break
                weights[path] = weights.get(path, 0.0) + prob
        return {path: weight for path, weight in weights.items() if weight > self._limits.min_mass}

    def _may_go(self, path: Path, asked: Container[Path]) -> bool:
        """Whether the member may go a path's last token on, as far as that is known; what is asked will tell."""
        probs = self._find(path[:-1])
        return path[:-1] in asked if probs is None else float(probs[path[-1]]) > self._limits.min_mass

    def _find(self, path: Path) -> Tensor | None:
        """The member's probs after a path, where they are there."""
        probs = self._known.get(path)
        return self._outlook.answers.get(path) if probs is None else probs

    @cached_property
    def _likely(self) -> list[tuple[Path, float]]:
        return self._spell(self._pending, self._expected)

    @cached_property
    def _later(self) -> Sequence[Later]:
        return self._outlook.look()

    def _spell(self, pending: bytes, expected: Tensor) -> list[tuple[Path, float]]:
        """The main model's likely tokens after pending bytes as the member spells them, with their probabilities."""
        ids = (expected > max(self._limits.min_mass / 2, LEAST_LIKELY)).nonzero().flatten()
        spelled = (self._tables.spell(pending, token_id) for token_id in ids.tolist())
        return list(zip(spelled, expected[ids].tolist(), strict=True))


def _by(weights: dict[Path, float]) -> Callable[[Path], float]:
    """Sorts paths by their weight, the greatest first."""
    return lambda path: -weights[path]
