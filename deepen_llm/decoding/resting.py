"""Members that hardly count rest, and are asked again as soon as they might count.

A member's forward passes are put off while what it can add to the fused distribution is at most `MOST`: the one without
it differs from the one with it by no more, in total variation, at any step. What it could have come to count is bounded
by giving it probability 1 for everything that was said since. Once the bound is passed it is fed all that in one pass,
and what it gave the words since then counts as if it had been asked.

Where the best token is taken, more may be put off, since the choice can be checked: it is certainly the same where the
best token leads by as much as the members that rest could add. Where it does not, they are asked at that very step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import final

from deepen_llm.decoding.open_word import OpenWord, Said

MOST = 1e-3
"""What the members that rest can add at most to a distribution that is drawn from or reported."""
MOST_CHECKED = 0.1
"""The same where only the best token counts, and is checked."""


def is_certain(best: float, second: float, share: float) -> bool:
    """Whether the best token stays the best, whatever members with a share of the weight have to say.

    Args:
        best: Its probability without them.
        second: That of the next best one.
        share: The most that they can count, from 0 to 1.
    """
    return (1 - share) * (best - second) > share


@final
class Rest:
    """The members of one sequence that rest, and what was said since the first of them does."""

    def __init__(self, members: frozenset[int], word: OpenWord) -> None:
        """These members rest from where the word stands."""
        self.members = members
        self._before, self._most = word.copy(), word.copy()
        self._said: list[Said] = []

    @property
    def share(self) -> float:
        """The most that the members that rest can count at the next step."""
        return sum(map(self._most.bound, self.members))

    @property
    def sizes(self) -> list[int]:
        """The bytes of each token that was said."""
        return [len(one.token) for one in self._said]

    def add(self, members: frozenset[int]) -> None:
        """These rest, too."""
        self.members |= members

    def note(self, said: Said) -> None:
        """A token was said."""
        self._said.append(said)
        self._most.retell(said.fill(dict.fromkeys(self.members, 1.0)))

    def end(self, give: Callable[[int, list[int]], Sequence[float]]) -> OpenWord:
        """Where the sequence stands now that all members have been asked.

        Args:
            give: What a member gave each of the tokens, by their sizes in bytes; NaN where it is not known.
        """
        given = {member: give(member, self.sizes) for member in self.members}
        word = self._before
        for place, said in enumerate(self._said):
            filled = {m: one[place] for m, one in given.items() if math.isnan(said.given[m])}
            word.retell(said.fill(filled))
        return word


def choose_resting(word: OpenWord, rest: Rest | None, members: Sequence[int], most: float) -> Rest | None:
    """Who rests at the next step; None where all members are asked.

    Args:
        word: Where the sequence stands.
        rest: Who has rested so far.
        members: Those that may rest.
        most: What those that rest may add at most.
    """
    if rest is not None and rest.share > most:
        return None
    room = most - (0.0 if rest is None else rest.share)
    tired: list[int] = []
    for member in sorted(set(members) - (frozenset() if rest is None else rest.members), key=word.bound):
        room -= word.bound(member)
        if room < 0:
            break
        tired.append(member)
    if not tired:
        return rest
    if rest is None:
        return Rest(frozenset(tired), word)
    rest.add(frozenset(tired))
    return rest
