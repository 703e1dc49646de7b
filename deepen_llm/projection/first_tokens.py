"""Which token of the main model a text begins with, as the main model's own tokenizer cuts it."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from deepen_llm.vocabulary import Vocabulary
from deepen_llm.vocabulary.canonical import complete

NONE = -1
"""In place of a token where the main model's vocabulary cannot express the text."""
MAX_REMEMBERED = 1 << 17


@final
class FirstTokens:
    """The main tokenizer's first token of any text that continues other text."""

    def __init__(self, main: Vocabulary, *, is_exact: bool = False, align_eos: bool = True) -> None:
        """How to find them.

        Args:
            main: The main model's vocabulary.
            is_exact: A text's first token is open wherever it is not proven to stay.
            align_eos: A member's end-of-sequence counts as the main model's; otherwise the main model cannot express
            it.
        """
        self._main = main
        self._prefixes = main.prefixes
        self._is_exact, self._align_eos = is_exact, align_eos
        self._known: dict[bytes, tuple[int, bool]] = {}
        self._stays_known: dict[tuple[tuple[int, ...], bytes], bool] = {}
        self._sorted_ids = torch.tensor(self._prefixes.ids, dtype=torch.int64)

    def find(self, text: bytes) -> tuple[int, bool]:
        """The first token of a text that is not empty, and whether what follows the text may change it.

        The id is `NONE` where the main model cannot express the text. The bytes of a character that is not complete
        yet count as the longest token that they begin with.
        """
        found = self._known.get(text)
        if found is None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            first = self._find(text)
            found = self._known[text] = first, self._is_open(text, first)
        return found

    def longer_mass(self, text: bytes, probs: Tensor) -> float:
        """What probs `(num_logits,)` of the main model put on the tokens that begin with the text and go on."""
        places = self._prefixes.beginning_with(text)
        begin = places.start + len(self._prefixes.ids_of(text))
        return float(probs[self._sorted_ids[begin : places.stop].to(probs.device)].sum())

    def compatible(self, text: bytes) -> Tensor:
        """The main model's tokens that begin with the text, it itself included: `(num,)` int64, on the CPU."""
        places = self._prefixes.beginning_with(text)
        return self._sorted_ids[places.start : places.stop]

    def may_follow(self, tail: tuple[int, ...], text: bytes) -> bool:
        """Whether the main tokenizer still cuts off the tokens of `tail` where the text follows them.

        A tail that is not cut as its own text would be tells nothing: anything may follow it.
        """
        found = self._stays_known.get((tail, text))
        if found is None:
            if len(self._stays_known) >= MAX_REMEMBERED:
                self._stays_known.clear()
            found = self._stays_known[tail, text] = self._stays(tail, text)
        return found

    def _stays(self, tail: tuple[int, ...], text: bytes) -> bool:
        before = self._main.join(tail)
        if self._main.encode(complete(before), at_start=False) != list(tail):
            return True
        ids = self._main.encode(complete(before + text), at_start=False)
        return ids[: len(tail)] == list(tail)

    def read(self, member: Vocabulary) -> tuple[list[int], list[bool]]:
        """For every token of a member: the first token of its text, and whether that is open.

        Returns:
            An id of the main model per token, `NONE` for one without text, end-of-sequence for end-of-sequence; and
            what is open.
        """
        found = [self.find(token) if token else (NONE, False) for token in member.tokens]
        ids, opens = [first for first, _ in found], [is_open for _, is_open in found]
        if self._main.eos_ids and self._align_eos:
            for eos_id in member.eos_ids:
                ids[eos_id] = self._main.eos_ids[0]
        return ids, opens

    def _is_open(self, text: bytes, first: int) -> bool:
        """The tokens that begin with the text and go on tell that in practice.

        Merges can reach back further; where the answer is to be exact, only a safe cut after the first token
        settles it.
        """
        if not self._is_exact:
            return self._prefixes.has_longer(text)
        whole = complete(text)
        cut = len(whole[: self._main.last_safe_cut(whole)].encode())
        return first == NONE or cut < len(self._main.tokens[first] or b"")

    def _find(self, text: bytes) -> int:
        whole = complete(text)
        if whole:
            return self._first_of(whole)
        known = self._main.ids_by_token
        lengths = range(len(text), 0, -1)
        return next((known[text[:length]] for length in lengths if text[:length] in known), NONE)

    def _first_of(self, text: str) -> int:
        ids = self._main.encode(text, at_start=False)
        token = self._main.tokens[ids[0]] if ids and ids[0] != self._main.unk_id else None
        if token is None:
            return NONE
        # A tokenizer without an unknown token drops what it cannot express, and begins with what comes after.
        is_there = text.encode().startswith(token) or self._main.can_express(text)
        return ids[0] if is_there else NONE
