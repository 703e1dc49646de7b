"""One distribution being projected: the member's tokens expanded to where the main model's first token is certain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from deepen_llm.projection.first_tokens import NONE
from deepen_llm.projection.limits import ExpansionLimits
from deepen_llm.projection.results import Path, Projection, Queries
from deepen_llm.projection.tables import LEAST_EXPECTED, ProjectionTables, TokenMap

NUM_CHECKED = 64
"""Of so many tokens after pending bytes it is looked at whether they may follow the main model's last ones."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A token sequence being expanded."""

    path: Path
    text: bytes
    """Its bytes since the boundary."""
    mass: float
    """Its probability, given the boundary."""


@final
class Expansion:
    """Projects one distribution after pending bytes. See `projector.py` for what it computes."""

    def __init__(
        self,
        tables: ProjectionTables,
        limits: ExpansionLimits,
        pending: bytes,
        known: dict[Path, Tensor],
        max_length: int | float,
        own_path: Path,
        tail: Path,
        expected: Tensor | None,
    ) -> None:
        """See `Projector.expand`."""
        self._tables, self._limits = tables, limits
        self._own_path, self._tail, self._expected = own_path, tail, expected
        self._pending, self._known, self._max_length = pending, known, max_length
        self._projection = Projection(torch.zeros(tables.num_main, device=tables.device))
        self._counted: dict[int, float] = {}
        """Mass of single texts, by the main model's token, on top of the projection's probs."""
        self._least = limits.min_mass
        """Mass that counts as real is more than this."""

    def run(self) -> Queries:
        """Expand level by level, a token each; what it takes is asked for one level at a time."""
        projection, known = self._projection, self._known
        level = [Hypothesis((), b"", 1.0)]
        if () not in known and self._limits.max_passes < 1:
            level, projection.truncated_mass = [], 1.0
        while level:
            missing = [parent.path for parent in level if parent.path not in known]
            if missing:
                known.update((yield missing))
                projection.num_rows += len(missing)
                projection.num_passes += 1
            children: list[Hypothesis] = []
            for parent in level:
                children += self._expand(parent, known[parent.path])
            level = self._choose(children)
        return self._finish()

    def _expand(self, parent: Hypothesis, probs: Tensor) -> list[Hypothesis]:
        """Count what is certain one token further; the others become hypotheses."""
        inside = self._pending[len(parent.text) :]
        if inside:
            return self._expand_inside(parent, inside, probs)
        beyond = parent.text[len(self._pending) :]
        return self._expand_beyond(parent, beyond, probs) if beyond else self._expand_closed(parent, probs)

    def _expand_closed(self, parent: Hypothesis, probs: Tensor) -> list[Hypothesis]:
        """One token further from where the pending bytes end."""
        projection, masses = self._projection, probs * parent.mass
        children, masses = self._split(parent, self._tables.all_tokens, masses)
        counted, residual = self._tables.count(masses[None], None if self._expected is None else self._expected[None])
        projection.probs = projection.probs + counted[0]
        if residual is not None:
            projection.residual = residual[0] if projection.residual is None else projection.residual + residual[0]
        return children

    def _expand_inside(self, parent: Hypothesis, inside: bytes, probs: Tensor) -> list[Hypothesis]:
        """One token further within the pending bytes: it must agree with them."""
        tables = self._tables
        shorter = [
            self._extend(parent, token_id, float(probs[token_id]) * parent.mass)
            for length in range(1, len(inside))
            for token_id in tables.prefixes.ids_of(inside[:length])
        ]
        table = tables.after(inside)
        masses = probs.index_select(0, table.ids) * parent.mass
        if self._tail:
            masses = self._drop_unfit(table, len(inside), masses)
        if not parent.path:
            self._least *= float(masses.sum()) + sum(child.mass for child in shorter if self._is_real(child))
        children, counted = self._split(parent, table, masses)
        self._add_at(table.main_ids, counted * table.can_map)
        self._projection.truncated_mass += float((counted * ~table.can_map).sum())
        return children + shorter

    def _drop_unfit(self, table: TokenMap, num_inside: int, masses: Tensor) -> Tensor:
        """Masses without those of tokens that go on as the text cannot: the main model would have chosen another.

        The best are looked at one by one; of the others as large a share is left out.
        """
        best = masses.topk(min(len(masses), NUM_CHECKED))
        texts = [(self._tables.member.tokens[i] or b"")[num_inside:] for i in table.ids[best.indices].tolist()]
        fits = [not text or self._tables.first.may_follow(self._tail, text) for text in texts]
        if all(fits):
            return masses
        kept = best.values * torch.tensor(fits, device=masses.device)
        goes_beyond = torch.tensor([bool(text) for text in texts], device=masses.device)
        share = (kept * goes_beyond).sum() / (best.values * goes_beyond).sum()
        return (masses * share.nan_to_num(1.0)).scatter(0, best.indices, kept)

    def _expand_beyond(self, parent: Hypothesis, beyond: bytes, probs: Tensor) -> list[Hypothesis]:
        """One token further after the pending bytes; end-of-sequence leaves the text as it stands."""
        tables = self._tables
        ended = float(probs[tables.eos_ids].sum()) * parent.mass
        self._count(tables.first.find(beyond)[0], ended)
        probs = probs.index_fill(0, tables.eos_ids, 0.0)
        best = probs.topk(min(len(probs), self._limits.num_tokens))
        children, left = [], parent.mass - ended
        for token_id, share in zip(best.indices.tolist(), (best.values * parent.mass).tolist(), strict=True):
            if share <= 0:
                break
            left -= share
            text = beyond + (tables.member.tokens[token_id] or b"")
            first, is_open = tables.first.find(text)
            if is_open and share > self._least and self._is_expected(text):
                children.append(self._extend(parent, token_id, share))
            elif not (is_open and self._spread(text, share)):
                self._count(first, share)
        if not self._spread(beyond, max(left, 0.0)):
            self._count(tables.first.find(beyond)[0], max(left, 0.0))
        return children

    def _split(self, parent: Hypothesis, table: TokenMap, masses: Tensor) -> tuple[list[Hypothesis], Tensor]:
        """Hypotheses for the open tokens with real mass.

        Returns:
            The hypotheses, and the masses `(num,)` without theirs.
        """
        is_real = (masses > self._least) & table.is_open
        if len(parent.path) == len(self._own_path) - 1 and self._is_own(parent.path):
            is_real |= table.ids == self._own_path[-1]  # the member's own way counts, however little it gave it
        real = is_real.nonzero().flatten()
        if len(real) > self._limits.num_tokens:
            real = real[masses[real].topk(int(self._limits.num_tokens)).indices]
        places: list[int] = []
        children: list[Hypothesis] = []
        for place, token_id in zip(real.tolist(), table.ids[real].tolist(), strict=True):
            child = self._extend(parent, token_id, float(masses[place]))
            if self._is_expected(child.text[len(self._pending) :]):
                places.append(place)
                children.append(child)
        if children:
            masses = masses.index_fill(0, torch.tensor(places, device=masses.device), 0.0)
        return children, masses

    def _spread(self, text: bytes, mass: float) -> bool:
        """Mass for all tokens that begin with a text, shared as the main model does; False where it expects none."""
        if self._expected is None:
            return False
        ids = self._tables.first.compatible(text).to(self._expected.device)
        shares = self._expected[ids]
        total = float(shares.sum())
        if total <= LEAST_EXPECTED:
            return False
        self._add_at(ids, shares * (mass / total))
        return True

    def _add_at(self, ids: Tensor, masses: Tensor) -> None:
        """Add masses `(num,)` to tokens of the main model."""
        self._projection.probs = self._projection.probs.to(masses.dtype).index_add(0, ids, masses)

    def _is_expected(self, beyond: bytes) -> bool:
        """Whether the main model expects a longer token that begins with this text; it need not after pending bytes."""
        if self._expected is None or not beyond:
            return True
        return self._tables.first.longer_mass(beyond, self._expected) > self._limits.min_mass

    def _choose(self, children: Iterable[Hypothesis]) -> list[Hypothesis]:
        """The hypotheses to expand; the others count as they stand, or are truncated inside the pending bytes."""
        limits, num_open = self._limits, len(self._pending)
        room = limits.max_rows if self._projection.num_passes < limits.max_passes else 0
        chosen = []
        for child in sorted(children, key=lambda child: -child.mass):
            is_known = child.path in self._known
            may_ask = room > 0 and len(child.path) <= self._max_length
            if self._is_real(child) and (is_known or may_ask):
                room -= not is_known
                chosen.append(child)
                if len(child.text) > num_open:
                    self._projection.expanded.append(child.text[num_open:])
            elif len(child.text) > num_open:
                self._count_as_it_stands(child)
            else:
                self._projection.truncated_mass += child.mass
        return chosen

    def _is_real(self, hypothesis: Hypothesis) -> bool:
        """Whether a hypothesis is worth expanding.

        Within the pending bytes a tokenizer has one way, and the member knows its own; what it gives the others is
        noise, but it can be more than what it gave this text. Others count that were its own before the last bytes
        came, and may be again.
        """
        if len(hypothesis.text) <= len(self._pending) and not self._limits.is_exact:
            return self._is_own(hypothesis.path) or hypothesis.path in self._known
        return hypothesis.mass > self._least

    def _is_own(self, path: Path) -> bool:
        """Whether the member's own tokens for the pending bytes begin with the path."""
        return path == self._own_path[: len(path)]

    def _count_as_it_stands(self, hypothesis: Hypothesis) -> None:
        """Count a hypothesis as it stands; an own token that the main model cannot express is residual."""
        beyond, token_id = hypothesis.text[len(self._pending) :], hypothesis.path[-1]
        first, is_open = self._tables.first.find(beyond)
        if is_open and self._spread(beyond, hypothesis.mass):
            return
        if first == NONE and self._projection.residual is not None and beyond == self._tables.member.tokens[token_id]:
            self._projection.residual[token_id] += hypothesis.mass
        else:
            self._count(first, hypothesis.mass)

    def _count(self, first: int, mass: float) -> None:
        """Mass for a token of the main model; for text that it cannot express it is truncated."""
        if first == NONE:
            self._projection.truncated_mass += mass
        else:
            self._counted[first] = self._counted.get(first, 0.0) + mass

    def _extend(self, parent: Hypothesis, token_id: int, mass: float) -> Hypothesis:
        return Hypothesis((*parent.path, token_id), parent.text + (self._tables.member.tokens[token_id] or b""), mass)

    def _finish(self) -> Projection:
        """The projection, made to sum to 1."""
        projection = self._projection
        if self._counted:
            ids = torch.tensor(list(self._counted), device=projection.probs.device)
            masses = torch.tensor(list(self._counted.values()), dtype=projection.probs.dtype, device=ids.device)
            projection.probs = projection.probs.index_add(0, ids, masses)
        total = float(projection.probs.sum()) + (
            0.0 if projection.residual is None else float(projection.residual.sum())
        )
        projection.has_mass = total > 0
        projection.mass = total
        projection.truncated_mass = (
            projection.truncated_mass / (total + projection.truncated_mass) if projection.truncated_mass else 0.0
        )
        if projection.has_mass:
            projection.probs = projection.probs / total
            projection.residual = None if projection.residual is None else projection.residual / total
        return projection
