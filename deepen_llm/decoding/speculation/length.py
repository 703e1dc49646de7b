"""How far to read ahead: as far as it pays, given how often what was written ahead came true.

In units of what the step costs in which the tokens are checked, let a draft of k tokens be written for `write` each and
checked for `check` each, and let each token come true with probability a. A step then yields on average

    1 + a + ... + a^k  tokens for  1 + k (check + write),

and k is the length with the most tokens for their cost; none where a step without a draft has more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

PRIOR_TRUE, PRIOR_TESTED = 1.4, 2.0
"""How a rate begins: as if so many tokens had come true of so many."""
FORGETTING = 0.9
"""How much what is known counts after the next draft."""


class Cost(NamedTuple):
    """Of one token of a draft, as shares of a step without one."""

    write: float
    check: float


@final
@dataclass(slots=True)
class AcceptanceRate:
    """How often the tokens of one kind of draft came true, of late."""

    num_true: float = PRIOR_TRUE
    num_tested: float = PRIOR_TESTED

    @property
    def share(self) -> float:
        """The probability that a token comes true where all before it did."""
        return self.num_true / self.num_tested

    def note(self, num_true: int, num_tested: int) -> None:
        """So many tokens of a draft came true, of those before which all had."""
        self.num_true = self.num_true * FORGETTING + num_true
        self.num_tested = self.num_tested * FORGETTING + num_tested


def choose_length(share: float, cost: Cost, most: int) -> int:
    """The length of a draft that pays best, from 0 to `most`."""
    best, best_length = 1.0, 0
    num_tokens, chance = 1.0, 1.0
    for length in range(1, most + 1):
        chance *= share
        num_tokens += chance
        pays = num_tokens / (1 + length * (cost.check + cost.write))
        if pays > best:
            best, best_length = pays, length
    return best_length
