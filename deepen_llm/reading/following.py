"""One distribution being read: the member's tokens followed to where the text that they begin is settled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from deepen_llm.reading.bounds import ReadingBounds
from deepen_llm.reading.first_tokens import NONE
from deepen_llm.reading.row import Asking, Path, RowReading
from deepen_llm.reading.tables import LEAST_EXPECTED, ReadingTables, TokenTable


@dataclass(frozen=True, slots=True)
class Branch:
    """A token sequence being followed."""

    path: Path
    text: bytes
    """Its bytes since the boundary."""
    mass: float
    """Its probability, given the boundary."""


@final
class Following:
    """Reads one distribution behind open bytes. See `reader.py` for what it computes."""

    def __init__(
        self,
        tables: ReadingTables,
        bounds: ReadingBounds,
        opened: bytes,
        known: dict[Path, Tensor],
        max_length: int | float,
        own_path: Path,
        tail: Path,
        expected: Tensor | None,
    ) -> None:
        """See `TextReader.follow`."""
        self._tables, self._bounds = tables, bounds
        self._own_path, self._tail, self._expected = own_path, tail, expected
        self._opened, self._known, self._max_length = opened, known, max_length
        self._reading = RowReading(torch.zeros(tables.num_main, device=tables.device))
        self._counted: dict[int, float] = {}
        """Mass of single texts, by the main model's token, on top of the reading's probs."""
        self._least = bounds.min_mass
        """Mass that counts as real is more than this."""

    def run(self) -> Asking:
        """Follow level by level, a token each; what it takes is asked for one level at a time."""
        reading, known = self._reading, self._known
        level = [Branch((), b"", 1.0)]
        if () not in known and self._bounds.max_passes < 1:
            level, reading.neglected = [], 1.0
        while level:
            missing = [branch.path for branch in level if branch.path not in known]
            if missing:
                known.update((yield missing))
                reading.num_rows += len(missing)
                reading.num_passes += 1
            children: list[Branch] = []
            for branch in level:
                children += self._expand(branch, known[branch.path])
            level = self._choose(children)
        return self._finish()

    def _expand(self, branch: Branch, probs: Tensor) -> list[Branch]:
        """Count what is settled one token further; the others as branches."""
        inside = self._opened[len(branch.text) :]
        if inside:
            return self._expand_inside(branch, inside, probs)
        beyond = branch.text[len(self._opened) :]
        return self._expand_beyond(branch, beyond, probs) if beyond else self._expand_closed(branch, probs)

    def _expand_closed(self, branch: Branch, probs: Tensor) -> list[Branch]:
        """One token further from where the open bytes end."""
        reading, masses = self._reading, probs * branch.mass
        children, masses = self._split(branch, self._tables.whole, masses)
        counted, rest = self._tables.count(masses[None], None if self._expected is None else self._expected[None])
        reading.probs = reading.probs + counted[0]
        if rest is not None:
            reading.rest = rest[0] if reading.rest is None else reading.rest + rest[0]
        return children

    def _expand_inside(self, branch: Branch, inside: bytes, probs: Tensor) -> list[Branch]:
        """One token further within the open bytes: it must agree with them."""
        tables = self._tables
        shorter = [
            self._extend(branch, token_id, float(probs[token_id]) * branch.mass)
            for length in range(1, len(inside))
            for token_id in tables.prefixes.ids_of(inside[:length])
        ]
        table = tables.behind(inside)
        masses = probs.index_select(0, table.ids) * branch.mass
        if not branch.path:
            self._least *= float(masses.sum()) + sum(child.mass for child in shorter)
        if self._tail:
            masses = self._drop_unfit(table, len(inside), masses)
        children, counted = self._split(branch, table, masses)
        self._add_at(table.targets, counted * table.carries)
        self._reading.neglected += float((counted * ~table.carries).sum())
        return children + shorter

    def _drop_unfit(self, table: TokenTable, num_inside: int, masses: Tensor) -> Tensor:
        """Masses without those of tokens that go on as the text cannot: the main model would have said another."""
        real = (masses > self._least).nonzero().flatten()
        unfit = []
        for place, token_id in zip(real.tolist(), table.ids[real].tolist(), strict=True):
            beyond = (self._tables.member.tokens[token_id] or b"")[num_inside:]
            if beyond and not self._tables.first.may_follow(self._tail, beyond):
                unfit.append(place)
        return masses.index_fill(0, torch.tensor(unfit, device=masses.device), 0.0) if unfit else masses

    def _expand_beyond(self, branch: Branch, beyond: bytes, probs: Tensor) -> list[Branch]:
        """One token further behind the open bytes; end-of-sequence settles the text as it stands."""
        tables = self._tables
        ended = float(probs[tables.eos_ids].sum()) * branch.mass
        self._count(tables.first.look(beyond)[0], ended)
        probs = probs.index_fill(0, tables.eos_ids, 0.0)
        best = probs.topk(min(len(probs), self._bounds.num_tokens))
        children, left = [], branch.mass - ended
        for token_id, share in zip(best.indices.tolist(), (best.values * branch.mass).tolist(), strict=True):
            if share <= 0:
                break
            left -= share
            text = beyond + (tables.member.tokens[token_id] or b"")
            first, is_open = tables.first.look(text)
            if is_open and share > self._least and self._is_expected(text):
                children.append(self._extend(branch, token_id, share))
            elif not (is_open and self._spread(text, share)):
                self._count(first, share)
        if not self._spread(beyond, max(left, 0.0)):
            self._count(tables.first.look(beyond)[0], max(left, 0.0))
        return children

    def _split(self, branch: Branch, table: TokenTable, masses: Tensor) -> tuple[list[Branch], Tensor]:
        """Branches for the open tokens with real mass.

        Returns:
            The branches, and the masses `(num,)` without theirs.
        """
        is_real = (masses > self._least) & table.opens
        if len(branch.path) == len(self._own_path) - 1 and self._is_own(branch.path):
            is_real |= table.ids == self._own_path[-1]  # the member's own way counts, however little it gave it
        real = is_real.nonzero().flatten()
        if len(real) > self._bounds.num_tokens:
            real = real[masses[real].topk(int(self._bounds.num_tokens)).indices]
        places: list[int] = []
        children: list[Branch] = []
        for place, token_id in zip(real.tolist(), table.ids[real].tolist(), strict=True):
            child = self._extend(branch, token_id, float(masses[place]))
            if self._is_expected(child.text[len(self._opened) :]):
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
        self._reading.probs = self._reading.probs.to(masses.dtype).index_add(0, ids, masses)

    def _is_expected(self, beyond: bytes) -> bool:
        """Whether the main model expects a longer token that begins with this text; open bytes alone always count."""
        if self._expected is None or not beyond:
            return True
        return self._tables.first.longer_mass(beyond, self._expected) > self._bounds.min_mass

    def _choose(self, children: Iterable[Branch]) -> list[Branch]:
        """The branches to follow; the others count as they stand, or are neglected inside the open bytes."""
        bounds, num_open = self._bounds, len(self._opened)
        room = bounds.max_rows if self._reading.num_passes < bounds.max_passes else 0
        chosen = []
        for child in sorted(children, key=lambda child: -child.mass):
            is_known = child.path in self._known
            may_ask = room > 0 and len(child.path) <= self._max_length
            if self._is_real(child) and (is_known or may_ask):
                room -= not is_known
                chosen.append(child)
                if len(child.text) > num_open:
                    self._reading.extended.append(child.text[num_open:])
            elif len(child.text) > num_open:
                self._count_branch(child)
            else:
                self._reading.neglected += child.mass
        return chosen

    def _is_real(self, branch: Branch) -> bool:
        """Whether a branch is worth following.

        Within the open bytes a tokenizer has one way, and the member knows its own; what it gives the others is noise,
        but it can be more than what it gave this text.
        """
        if len(branch.text) <= len(self._opened) and not self._bounds.is_exact:
            return self._is_own(branch.path)
        return branch.mass > self._least

    def _is_own(self, path: Path) -> bool:
        """Whether the member's own tokens for the open bytes begin with the path."""
        return path == self._own_path[: len(path)]

    def _count_branch(self, branch: Branch) -> None:
        """Count a branch as it stands; a token of the member's own that the main model cannot express is rest."""
        beyond, token_id = branch.text[len(self._opened) :], branch.path[-1]
        first, is_open = self._tables.first.look(beyond)
        if is_open and self._spread(beyond, branch.mass):
            return
        if first == NONE and self._reading.rest is not None and beyond == self._tables.member.tokens[token_id]:
            self._reading.rest[token_id] += branch.mass
        else:
            self._count(first, branch.mass)

    def _count(self, first: int, mass: float) -> None:
        """Mass for a token of the main model; for text that it cannot express it is neglected."""
        if first == NONE:
            self._reading.neglected += mass
        else:
            self._counted[first] = self._counted.get(first, 0.0) + mass

    def _extend(self, branch: Branch, token_id: int, mass: float) -> Branch:
        return Branch((*branch.path, token_id), branch.text + (self._tables.member.tokens[token_id] or b""), mass)

    def _finish(self) -> RowReading:
        """The reading, made to sum to 1."""
        reading = self._reading
        if self._counted:
            ids = torch.tensor(list(self._counted), device=reading.probs.device)
            masses = torch.tensor(list(self._counted.values()), dtype=reading.probs.dtype, device=ids.device)
            reading.probs = reading.probs.index_add(0, ids, masses)
        total = float(reading.probs.sum()) + (0.0 if reading.rest is None else float(reading.rest.sum()))
        reading.speaks = total > 0
        reading.neglected = reading.neglected / (total + reading.neglected) if reading.neglected else 0.0
        if reading.speaks:
            reading.probs = reading.probs / total
            reading.rest = None if reading.rest is None else reading.rest / total
        return reading
