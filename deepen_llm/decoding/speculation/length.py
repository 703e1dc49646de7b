"""How far to read ahead: as far as it pays, given how often what was drafted came true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

FORGETTING = 0.98
"""How much what is known counts after the next token."""
BEGUN = 4.0
"""How much what is taken to be so at first counts, in tokens."""


class Cost(NamedTuple):
    """Of reading a token ahead, as shares of a step without any."""

    write: float
    """A pass of the member that writes the draft."""
    check: float
    """One more token in the passes of all."""

    def pays_to_check(self, chance: float) -> bool:
        """Whether a token that comes true with this chance is to be checked: by half more than it costs."""
        return chance >= 1.5 * self.check

    def pays_to_write_on(self, chance: float, share: float) -> bool:
        """Whether another token is to be written behind those drafted.

        The pass is wasted unless all of them come true, which they do with this chance; with this share of it the new
        one does, too, and then a pass of all others is saved.
        """
        return chance * share * (1 - self.write) > (1 - chance) * self.write + self.check


@final
@dataclass(slots=True)
class AcceptanceRate:
    """How often the tokens of one source came true, of late, beside how often it said they would."""

    num_true: float
    num_claimed: float = BEGUN

    @classmethod
    def begin(cls, share: float) -> AcceptanceRate:
        """As if a few tokens were tested, of which this share came true."""
        return cls(BEGUN * share)

    @property
    def share(self) -> float:
        """What a claimed probability is worth: a factor, at most 1."""
        return min(self.num_true / self.num_claimed, 1.0)

    def note(self, claimed: float, *, is_true: bool) -> None:
        """A token before which all came true did, or did not, whose source gave it this probability."""
        self.num_true = self.num_true * FORGETTING + is_true
        self.num_claimed = self.num_claimed * FORGETTING + claimed
