"""How the tokens of one member count for the tokens of the main model, as tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self, final

import torch
from torch import Tensor

from deepen_llm.projection.first_tokens import MAX_REMEMBERED, NONE, FirstTokens
from deepen_llm.projection.results import Path
from deepen_llm.vocabulary import Vocabulary
from deepen_llm.vocabulary.canonical import complete

MAX_ENTRIES = 1 << 21
"""The most entries of the tables after pending bytes that are kept, 34 MB of them."""


LEAST_EXPECTED = 1e-6
"""What the main model must expect at least of some tokens to be asked how it shares that among them."""


@final
@dataclass(frozen=True, eq=False)
class TokenMap:
    """Some of a member's tokens, and the main model's token that each begins."""

    ids: Tensor
    """`(num,)` int64, of the member."""
    main_ids: Tensor
    """`(num,)` int64, of the main model; any where `can_map` is False."""
    can_map: Tensor
    """`(num,)` bool: whether the main model can express it."""
    is_open: Tensor
    """`(num,)` bool: whether what follows may change that."""

    @classmethod
    def make(cls, ids: list[int], first: list[int], opens: list[bool]) -> Self:
        """From lists of equal length; `first` is `NONE` where the main model cannot express the token."""
        targets = torch.tensor(first, dtype=torch.int64)
        is_open = torch.tensor(opens, dtype=torch.bool)
        return cls(torch.tensor(ids, dtype=torch.int64), targets.clamp_min(0), targets != NONE, is_open)

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        tensors = {name: getattr(self, name).to(device) for name in ("ids", "main_ids", "can_map", "is_open")}
        return replace(self, **tensors)


@final
class ProjectionTables:
    """What projecting one member's distributions needs; on the device of its logits once `move` was told it."""

    def __init__(self, member: Vocabulary, main: Vocabulary, *, is_exact: bool = False, align_eos: bool = True) -> None:
        """Read every token of the member; see `FirstTokens` for the options."""
        self.member, self.main = member, main
        self.first = FirstTokens(main, is_exact=is_exact, align_eos=align_eos)
        self.prefixes = member.prefixes
        self.num_main = len(main)
        self.device = torch.device("cpu")
        ids, opens = self.first.read(member)
        begins = _find_beginnings(main, member)
        if not is_exact:
            longer = {begin for token_id, begin in enumerate(begins) if begin < len(ids) and token_id != ids[begin]}
            opens = [token_id in longer for token_id in range(len(member))]
        self._begins = torch.tensor(begins, dtype=torch.int64)
        """The member's first token of each main-model token, `(num_main_logits,)`; past all where it has none."""
        self.all_tokens = TokenMap.make(list(range(len(member))), ids, opens)
        """Every token, as it stands at a boundary."""
        self._is_closed = torch.tensor([*(not is_open for is_open in opens), True])
        """Which tokens count as they stand, and none: `(num_logits + 1,)` bool."""
        may_come = member.allowed
        self.mask = torch.zeros(len(member)).masked_fill_(~may_come, -torch.inf)
        """`(num_logits,)`: 0 for tokens that have text or end it, else `-inf`."""
        self.has_residual = bool((may_come & ~self.all_tokens.can_map).any())
        """Whether some token that may come is beyond the main model."""
        self.eos_ids = torch.tensor(member.eos_ids, dtype=torch.int64)
        self._after: dict[bytes, TokenMap] = {}
        self._num_entries = 0
        self._spelled: dict[bytes, Path] = {}

    def move(self, device: torch.device) -> None:
        """Keep the tables where the member's logits are."""
        if device != self.device:
            self.device = device
            self.all_tokens, self._begins = self.all_tokens.to(device), self._begins.to(device)
            self._is_closed = self._is_closed.to(device)
            self.mask, self.eos_ids = self.mask.to(device), self.eos_ids.to(device)
            self._after = {inside: table.to(device) for inside, table in self._after.items()}

    def count(self, masses: Tensor, expected: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Masses of all tokens, counted for the main model's.

        A token whose text may still grow into longer ones of the main model counts for these, and for the one that it
        is, as the main model itself shares its probability among them.

        Args:
            masses: `(batch, num_logits)`, not negative.
            expected: The main model's probs `(batch, num_main_logits)`; None counts every token as it stands.

        Returns:
            Masses of the main model's tokens `(batch, num_main_logits)`, and of the member's own that these cannot
            express `(batch, num_logits)`; None where there is no such token.
        """
        table = self.all_tokens
        if expected is None:
            counted = masses.new_zeros(len(masses), self.num_main)
        else:
            expected = expected.to(masses)
            totals = masses.new_zeros(len(masses), masses.shape[1] + 1).index_add_(1, self._begins, expected)
            counts_alone = (totals <= LEAST_EXPECTED).logical_or_(self._is_closed)
            shares = totals.masked_fill_(counts_alone, torch.inf).reciprocal_()
            shares[:, :-1].mul_(masses)
            counted = shares.index_select(1, self._begins).mul_(expected)
            masses = masses * counts_alone[:, :-1]
        if not self.has_residual:
            return counted.index_add_(1, table.main_ids, masses), None
        return counted.index_add_(1, table.main_ids, masses * table.can_map), masses * ~table.can_map

    def after(self, inside: bytes) -> TokenMap:
        """The tokens that begin with pending bytes, by what follows these in them; one that is the bytes is open."""
        table = self._after.get(inside)
        if table is None:
            places = self.prefixes.beginning_with(inside)
            ids = self.prefixes.ids[places.start : places.stop]
            texts = [(self.member.tokens[token_id] or b"")[len(inside) :] for token_id in ids]
            found = [self.first.find(text) if text else (NONE, True) for text in texts]
            firsts, opens = [first for first, _ in found], [is_open for _, is_open in found]
            table = TokenMap.make(ids, firsts, opens).to(self.device)
            self._keep(inside, table)
        return table

    def spell(self, inside: bytes, main_id: int) -> Path:
        """The member's own tokens for pending bytes and a token of the main model; none where it has no text."""
        token = self.main.tokens[main_id]
        if not token:
            return ()
        text = inside + token
        if (path := self._spelled.get(text)) is None:
            if len(self._spelled) >= MAX_REMEMBERED:
                self._spelled.clear()
            path = self._spelled[text] = tuple(self.member.encode(complete(text), at_start=False))
        return path

    def _keep(self, inside: bytes, table: TokenMap) -> None:
        self._num_entries += len(table.ids)
        if self._num_entries > MAX_ENTRIES:
            self._after, self._num_entries = {}, len(table.ids)
        self._after[inside] = table


def _find_beginnings(main: Vocabulary, member: Vocabulary) -> list[int]:
    """For every token of the main model the first of the member's own tokens for its text; `len(member)` for none.

    End-of-sequence has no text, and is never open.
    """
    begins = [
        next(iter(member.encode(complete(token), at_start=False)), NONE) if token else NONE for token in main.tokens
    ]
    return [begin if begin != NONE and member.tokens[begin] is not None else len(member) for begin in begins]
