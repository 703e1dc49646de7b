"""What one sequence was offered to go on with, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from deepen_llm.decoding.speculation.length import AcceptanceRate, Cost, choose_length
from deepen_llm.decoding.speculation.lookup import SIZES, TokenLookup

WRITTEN = 0
"""The source of drafts that a member wrote; other sources are how many tokens a look-up matched."""


@final
class Drafts:
    """The drafts of one sequence, in the main model's tokens."""

    def __init__(self, prompt_ids: Sequence[int]) -> None:
        """Begin behind a prompt."""
        self._lookup = TokenLookup()
        self._prompt_ids = prompt_ids
        self._rates = {source: AcceptanceRate() for source in (WRITTEN, *SIZES)}
        self._source: int | None = None
        self._draft: list[int] = []
        self._begin = 0
        """Where the draft that is being checked begins in what was chosen."""
        self.num_drafted = self.num_accepted = 0

    def look_up(self, chosen_ids: Sequence[int], cost: Cost, most: int) -> tuple[int, list[int]]:
        """A draft from the text itself, and its source; an empty one where there is none that pays."""
        if not self._lookup.num_tokens:
            self._lookup.extend(self._prompt_ids)
        self._lookup.extend(chosen_ids[self._lookup.num_tokens - len(self._prompt_ids) :])
        source, ids = self._lookup.find(most)
        if not ids:
            return source, []
        return source, ids[: choose_length(self._rates[source].share, cost, most)]

    def choose_length(self, cost: Cost, most: int) -> int:
        """How many tokens a member is to write ahead."""
        return choose_length(self._rates[WRITTEN].share, cost, most)

    def begin(self, source: int | None, ids: Sequence[int], num_chosen: int) -> None:
        """A draft is being checked, behind the tokens that were chosen; of None nothing is to be learnt."""
        self._source, self._draft, self._begin = source, list(ids), num_chosen
        self.num_drafted += len(ids)

    def settle(self, chosen_ids: Sequence[int]) -> None:
        """Learn from the last draft, now that what followed is chosen."""
        if not self._draft:
            return
        said = chosen_ids[self._begin : self._begin + len(self._draft)]
        num_true = next((at for at, token_id in enumerate(said) if token_id != self._draft[at]), len(said))
        self.num_accepted += num_true
        if self._source is not None:
            self._rates[self._source].note(num_true, min(num_true + 1, len(said)))
        self._draft = []
