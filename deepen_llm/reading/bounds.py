"""How far a reading goes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self, final


@final
@dataclass(frozen=True, slots=True)
class ReadingBounds:
    """Where a reading stops extending a member's tokens."""

    min_mass: float
    """Less mass than this does not count as real: what hangs on it is not extended."""
    max_rows: int | float
    """The most rows of one forward pass, a sequence."""
    max_passes: int | float
    """The most forward passes, a step."""
    num_tokens: int
    """Of an extended distribution so many best tokens are read; the others leave the text as it is."""
    is_exact: bool = False
    """Whether text counts as settled only where it is proven that nothing can change how it is cut."""

    @classmethod
    def lifted(cls) -> Self:
        """No bound at all: every sequence of tokens is followed to where nothing can change its reading."""
        return cls(min_mass=0.0, max_rows=math.inf, max_passes=math.inf, num_tokens=1 << 62, is_exact=True)
