"""One member's next-token distributions, read as distributions over how the text goes on.

Let F(s) be the probability that a member's text goes on with the bytes s. Where its own text ends inside what it would
have made one token, the member is asked at its last boundary, with the bytes b since then still open, and the
probability of s is F(b + s) / F(b). A reading gives each token t of the main model the probability that t is the first
token which the main model's own tokenizer makes of what follows:

    read(t) = sum over the member's token sequences that spell b and then r, first token of r being t.

A sequence is followed while it has not spelled b yet, and while what it spells behind b may still grow into a longer
token of the main model. Following it takes a forward pass, so it is done where real mass hangs on it, in batches
and within bounds; beyond them, text counts as it stands and mass that has not come through b is neglected.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from deepen_llm.reading.bounds import ReadingBounds
from deepen_llm.reading.first_tokens import NONE, FirstTokens
from deepen_llm.vocabulary import Vocabulary
from deepen_llm.vocabulary.prefixes import TokenPrefixes

Path = tuple[int, ...]
"""A member's tokens since its last boundary."""
Asking = Generator[list[Path], dict[Path, Tensor], "RowReading"]
"""Yields the paths after which it needs the member's probs `(num_logits,)`, and is sent them."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A token sequence being followed."""

    path: Path
    text: bytes
    """Its bytes since the boundary."""
    mass: float
    """Its probability, given the boundary."""


@dataclass(eq=False)
class RowReading:
    """What one distribution reads as."""

    probs: Tensor
    """Over the main model's tokens `(num_main_logits,)`; with `rest` it sums to 1, or to 0 where nothing fits."""
    rest: Tensor | None = None
    """Over the member's own tokens that the main model cannot express `(num_logits,)`."""
    neglected: float = 0.0
    """The share of the mass that was not followed through the open bytes."""
    num_rows: int = 0
    num_passes: int = 0
    """What following took: rows, and forward passes that they were part of."""
    extended: list[bytes] = field(default_factory=list)
    """The texts that were extended."""


@final
class TextReader:
    """Reads one member's distributions in the main model's tokens."""

    def __init__(self, member: Vocabulary, main: Vocabulary, bounds: ReadingBounds) -> None:
        self.member = member
        self.bounds = bounds
        self.prefixes = TokenPrefixes(member.tokens)
        self._first = FirstTokens(main, is_exact=bounds.is_exact)
        self._num_main = len(main)
        ids, self._opens = self._first.read(member)
        is_eos = torch.zeros(len(member), dtype=torch.bool)
        is_eos[list(member.eos_ids)] = True
        may_come = torch.tensor([bool(token) for token in member.tokens]) | is_eos
        self._mask = torch.zeros(len(member)).masked_fill_(~may_come, -torch.inf)
        self._is_unread = (ids == NONE) & may_come
        self._has_unread = bool(self._is_unread.any())
        self._targets = ids.clamp_min(0)
        self._carries = (~self._is_unread & may_come).float()
        self._eos_ids = torch.tensor(member.eos_ids, dtype=torch.int64)
        self._sorted_ids = torch.tensor(self.prefixes.ids, dtype=torch.int64)
        self._home = torch.device("cpu")

    def to_probs(self, logits: Tensor) -> Tensor:
        """The probs of logits `(batch, num_logits)` over the tokens that have text or end it, float32."""
        self._move(logits.device)
        return torch.softmax(logits.float() + self._mask, dim=-1)

    def read_closed(self, probs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Read distributions at a boundary, every token counted as it stands.

        Args:
            probs: `(batch, num_logits)`.

        Returns:
            Probs over the main model's tokens `(batch, num_main_logits)`, and over the member's own that these cannot
            express `(batch, num_logits)`, None where there is no such token.
        """
        read = torch.zeros(len(probs), self._num_main, device=probs.device)
        read.index_add_(1, self._targets, probs * self._carries)
        return read, probs * self._is_unread if self._has_unread else None

    def find_open(self, probs: Tensor) -> list[bool]:
        """Which of the distributions `(batch, num_logits)` have a token with real mass that is to be extended."""
        greatest = (probs * self._opens).amax(dim=-1) if len(self._opens) else probs.new_zeros(len(probs))
        found: list[bool] = (greatest > self.bounds.min_mass).tolist()
        return found

    def follow(self, opened: bytes, known: dict[Path, Tensor]) -> Asking:
        """Read one distribution behind open bytes.

        Args:
            opened: The bytes since the member's last boundary.
            known: The member's probs after paths that were followed before; what is asked for is added.
        """
        reading = RowReading(torch.zeros(self._num_main, device=self._home))
        level = [Branch((), b"", 1.0)]
        total = 1.0
        while level:
            missing = [branch.path for branch in level if branch.path not in known]
            if missing:
                known.update((yield missing))
                reading.num_rows += len(missing)
                reading.num_passes += 1
            children: list[Branch] = []
            for branch in level:
                children += self._expand(branch, opened, known[branch.path], reading)
            if len(level) == 1 and not level[0].path:
                total = float(reading.probs.sum()) + sum(child.mass for child in children)
            level = self._choose(children, opened, known, reading, total)
        return self._normalize(reading)

    def _expand(self, branch: Branch, opened: bytes, probs: Tensor, reading: RowReading) -> list[Branch]:
        """Count what is settled one token further; the others as branches."""
        inside = opened[len(branch.text) :]
        if inside:
            return self._expand_inside(branch, inside, probs, reading)
        beyond = branch.text[len(opened) :]
        if beyond:
            return self._expand_beyond(branch, beyond, probs, reading)
        read, rest = self.read_closed(branch.mass * probs[None])
        reading.probs += read[0]
        if rest is not None:
            reading.rest = rest[0] if reading.rest is None else reading.rest + rest[0]
        children = []
        for token_id, mass in self._best(probs * self._opens, branch.mass):
            if mass <= self.bounds.min_mass * branch.mass:
                break
            children.append(self._extend(branch, token_id, mass))
            reading.probs[self._targets[token_id]] -= mass * self._carries[token_id]
            if reading.rest is not None and self._is_unread[token_id]:
                reading.rest[token_id] -= mass
        return children

    def _expand_inside(self, branch: Branch, inside: bytes, probs: Tensor, reading: RowReading) -> list[Branch]:
        """One token further within the open bytes: it must agree with them."""
        places = self.prefixes.beginning_with(inside)
        ids = self._sorted_ids[places.start : places.stop]
        children: list[Branch] = []
        if len(ids):
            masses = probs.index_select(0, ids) * branch.mass
            best = masses.topk(min(len(ids), self.bounds.num_tokens))
            reading.neglected += float(masses.sum() - best.values.sum())
            for token_id, mass in zip(ids[best.indices].tolist(), best.values.tolist(), strict=True):
                child = self._extend(branch, token_id, mass)
                beyond = (self.member.tokens[token_id] or b"")[len(inside) :]
                if not beyond or self._first.is_open(beyond):
                    children.append(child)
                else:
                    self._count(beyond, mass, reading)
        for length in range(1, len(inside)):
            for place in self.prefixes.equal_to(inside[:length]):
                token_id = self.prefixes.ids[place]
                children.append(self._extend(branch, token_id, float(probs[token_id]) * branch.mass))
        return children

    def _expand_beyond(self, branch: Branch, beyond: bytes, probs: Tensor, reading: RowReading) -> list[Branch]:
        """One token further behind the open bytes; end-of-sequence settles the text as it stands."""
        children, counted = [], float(probs[self._eos_ids].sum()) * branch.mass
        self._count(beyond, counted, reading)
        probs = probs.index_fill(0, self._eos_ids, 0.0)
        for token_id, mass in self._best(probs, branch.mass):
            counted += mass
            text = beyond + (self.member.tokens[token_id] or b"")
            if self._first.is_open(text):
                children.append(self._extend(branch, token_id, mass))
            else:
                self._count(text, mass, reading)
        self._count(beyond, max(branch.mass - counted, 0.0), reading)
        return children

    def _choose(
        self, children: list[Branch], opened: bytes, known: dict[Path, Tensor], reading: RowReading, total: float
    ) -> list[Branch]:
        """The branches to follow; the others count as they stand, or are neglected inside the open bytes."""
        bounds = self.bounds
        room = bounds.max_rows if reading.num_passes < bounds.max_passes else 0
        chosen = []
        for child in sorted(children, key=lambda child: -child.mass):
            is_real = child.mass > bounds.min_mass * total
            if is_real and (child.path in known or room > 0):
                room -= child.path not in known
                chosen.append(child)
                if len(child.text) > len(opened):
                    reading.extended.append(child.text[len(opened) :])
            elif len(child.text) > len(opened):
                self._count(child.text[len(opened) :], child.mass, reading)
            else:
                reading.neglected += child.mass
        return chosen

    def _count(self, text: bytes, mass: float, reading: RowReading) -> None:
        """Mass for the first token of a text; text that the main model cannot express is neglected."""
        token_id = self._first.of(text)
        if token_id == NONE:
            reading.neglected += mass
        elif mass > 0:
            reading.probs[token_id] += mass

    def _extend(self, branch: Branch, token_id: int, mass: float) -> Branch:
        return Branch((*branch.path, token_id), branch.text + (self.member.tokens[token_id] or b""), mass)

    def _best(self, probs: Tensor, mass: float) -> Sequence[tuple[int, float]]:
        """The best tokens of probs `(num_logits,)` that have any, as many as are read, and their masses."""
        best = probs.topk(min(len(probs), self.bounds.num_tokens))
        pairs = zip(best.indices.tolist(), (best.values * mass).tolist(), strict=True)
        return [(token_id, share) for token_id, share in pairs if share > 0]

    def _normalize(self, reading: RowReading) -> RowReading:
        reading.probs.clamp_min_(0)
        total = float(reading.probs.sum()) + (0.0 if reading.rest is None else float(reading.rest.sum()))
        reading.neglected /= max(total + reading.neglected, 1e-30)
        if total > 0:
            reading.probs /= total
            if reading.rest is not None:
                reading.rest /= total
        return reading

    def _move(self, device: torch.device) -> None:
        """Keep the tables where the member's logits are."""
        if device == self._home:
            return
        self._home = device
        for name in ("_opens", "_mask", "_is_unread", "_targets", "_carries", "_eos_ids", "_sorted_ids"):
            setattr(self, name, getattr(self, name).to(device))
