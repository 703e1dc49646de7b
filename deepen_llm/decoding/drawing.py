"""What drawing one member for each word needs to know of an ensemble, the same for all its requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from deepen_llm.fusion.frame import FusionFrame
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.projection.first_tokens import NONE, FirstTokens
from deepen_llm.vocabulary.words import Place, find_beginnings, goes_on

MAX_REMEMBERED = 1 << 12


@final
class Drawing:
    """The members' tokens by how they begin. Used by one engine's thread."""

    def __init__(
        self, members: Sequence[GuardedMember], main: int, frame: FusionFrame, *, align_eos: bool = True
    ) -> None:
        """Make the tables.

        Args:
            members: Of the ensemble.
            main: Position of the main model.
            frame: Reads their logits.
            align_eos: Every member's end-of-sequence counts as the main model's; otherwise the main model cannot
                express it.
        """
        self.main = main
        self.vocabulary = members[main].vocabulary
        self._vocabularies = [member.vocabulary for member in members]
        self._frame, self._align_eos = frame, align_eos
        self._first = FirstTokens(self.vocabulary)
        self._beginnings = [find_beginnings(vocabulary) for vocabulary in self._vocabularies]
        self._beyond: dict[tuple[int, bytes, Place | None, bool], Tensor] = {}

    def read(self, member: int, logits: Tensor) -> Tensor:
        """A member's probs `(num_logits,)` of its logits, tokens that count as one merged."""
        return self._frame.tokens[member].probs(logits[None])[0]

    def keep_beginnings(self, member: int, probs: Tensor, place: Place) -> Tensor:
        """Probs `(num_logits,)` of which only those of tokens that begin a word at this place are left."""
        table = self._beginnings[member]
        if table.device != probs.device:
            table = self._beginnings[member] = table.to(probs.device)
        return probs * table[place]

    def begins(self, token_id: int, place: Place) -> bool:
        """Whether a token of the main model begins a word."""
        return bool(self._beginnings[self.main][place, token_id])

    def first_token(self, text: bytes, *, is_ended: bool) -> int | None:
        """The main model's first token of a text that is not empty; None while what follows may still change it.

        `NONE` where it cannot express the text.
        """
        found, is_open = self._first.find(text)
        if is_open and not is_ended:
            return None
        return found if found != NONE and text.startswith(self.vocabulary.tokens[found] or b"") else NONE

    def end_token(self, member: int, token_id: int) -> int | None:
        """What the main model ends with where a member draws its end-of-sequence; None for any other token."""
        if token_id not in self._vocabularies[member].eos_ids:
            return None
        return self.vocabulary.eos_ids[0] if self._align_eos and self.vocabulary.eos_ids else NONE

    def may_follow(self, tail: tuple[int, ...], text: bytes) -> bool:
        """Whether the main tokenizer still cuts off the tokens of `tail` where the text follows them."""
        return self._first.may_follow(tail, text)

    def beyond(self, member: int, inside: bytes, place: Place | None, *, with_equal: bool = False) -> Tensor:
        """A member's tokens that begin with these bytes and go on: `(num,)` int64, on the CPU.

        Args:
            member: Whose.
            inside: Bytes of the text that no token of the member's spells yet.
            place: Where the text stands: only tokens that begin a word behind it count. None: all.
            with_equal: Those that are the bytes count as well.
        """
        key = member, inside, place, with_equal
        found = self._beyond.get(key)
        if found is None:
            if len(self._beyond) >= MAX_REMEMBERED:
                self._beyond.clear()
            found = self._beyond[key] = self._find_beyond(*key)
        return found

    def _find_beyond(self, member: int, inside: bytes, place: Place | None, with_equal: bool) -> Tensor:
        vocabulary = self._vocabularies[member]
        places = vocabulary.prefixes.beginning_with(inside)
        ids = []
        for token_id in vocabulary.prefixes.ids[places.start : places.stop]:
            rest = (vocabulary.tokens[token_id] or b"")[len(inside) :]
            if with_equal if not rest else place is None or not goes_on(rest, place):
                ids.append(token_id)
        return torch.tensor(ids, dtype=torch.int64)
