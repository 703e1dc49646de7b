"""What sequences are offered to go on with, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple, final

from deepen_llm.decoding.speculation.length import AcceptanceRate, Cost
from deepen_llm.decoding.speculation.lookup import SIZES, TokenLookup

WRITTEN, GIVEN = "written", "given"
Source = str | int
"""Where a token of a draft comes from: a member wrote it, the text is given, or how many tokens a look-up matched."""
FIRST_SHARES: dict[Source, float] = {WRITTEN: 0.7, 6: 0.8, 4: 0.7, 3: 0.6, 2: 0.4, 1: 0.2}
"""How often tokens are taken to come true before any was seen to."""
MAX_CONTEXTS = 200_000
"""Of answers so many are remembered: some 40 thousand tokens, about 30 MB."""
MAX_PROMPT = 8192
"""Of a prompt so many of the last tokens are looked up in."""


class Drafted(NamedTuple):
    """A token of a draft."""

    token_id: int
    source: Source
    claimed: float = 1.0
    """How probable the source finds it."""


@final
class Sources:
    """What all sequences of an engine share: what their answers say, and how far each kind of draft can be trusted."""

    def __init__(self, *, remembers_answers: bool = True) -> None:
        """Begin with nothing; answers are only looked up where they are remembered."""
        self.answers = TokenLookup(MAX_CONTEXTS) if remembers_answers else None
        self.rates = {source: AcceptanceRate.begin(share) for source, share in FIRST_SHARES.items()}


@final
class Drafts:
    """The drafts of one sequence, in the main model's tokens."""

    def __init__(self, prompt_ids: Sequence[int]) -> None:
        """Begin behind a prompt."""
        self._ids = list(prompt_ids[-MAX_PROMPT:])
        self._num_prompt = len(self._ids)
        self._lookup = TokenLookup()
        self._num_noted = 0
        self._draft: list[Drafted] = []
        self._begin = 0
        """Where the draft that is being checked begins in what was chosen."""
        self.num_drafted = 0
        self._num_accepted = 0
        """Of the drafts before."""

    def look_up(self, sources: Sources, cost: Cost, most: int) -> list[Drafted]:
        """What the texts suggest, as far as it pays to check it; at most `most` tokens."""
        last, chance = list(self._ids[-max(SIZES) :]), 1.0
        found: list[Drafted] = []
        while len(found) < most:
            if (drafted := self._find(sources, last)) is None:
                break
            chance *= sources.rates[drafted.source].share
            if not cost.pays_to_check(chance):
                break
            found.append(drafted)
            last.append(drafted.token_id)
        return found

    def begin(self, draft: Sequence[Drafted]) -> None:
        """A draft is being checked, behind the tokens that are chosen."""
        self._draft, self._begin = list(draft), len(self._ids)
        self.num_drafted += len(draft)

    def settle(self, sources: Sources, chosen_ids: Sequence[int]) -> None:
        """Take in all that is chosen by now, and learn from the draft what of it came true."""
        num_known = len(self._ids) - self._num_prompt
        self._ids += chosen_ids[num_known:]
        self._lookup.note(self._ids, self._num_noted)
        if sources.answers is not None:
            sources.answers.note(self._ids, max(self._num_noted, self._num_prompt))
        self._num_noted = len(self._ids)
        self._num_accepted += self._count_true(self._ids[self._begin :])
        for drafted, token_id in zip(self._draft, self._ids[self._begin :], strict=False):
            is_true = drafted.token_id == token_id
            if drafted.source != GIVEN:
                sources.rates[drafted.source].note(drafted.claimed, is_true=is_true)
            if not is_true:
                break
        self._draft = []

    def count_accepted(self, chosen_ids: Sequence[int]) -> int:
        """How many drafted tokens are among those that were chosen, in their place."""
        return self._num_accepted + self._count_true(chosen_ids[self._begin - self._num_prompt :])

    def _count_true(self, said: Sequence[int]) -> int:
        pairs = zip(self._draft, said, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0].token_id == pair[1], pairs))

    def _find(self, sources: Sources, last: Sequence[int]) -> Drafted | None:
        """What is likely to follow these tokens."""
        for size in SIZES:
            context = tuple(last[-size:])
            if len(context) == size:
                for lookup in (self._lookup, sources.answers):
                    if lookup is not None and (token_id := lookup.find(context)) is not None:
                        return Drafted(token_id, size)
        return None
