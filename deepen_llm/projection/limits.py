"""How far a member's tokens are expanded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self, final


@final
@dataclass(frozen=True, slots=True)
class ExpansionLimits:
    """Where the expansion of a member's tokens stops."""

    min_mass: float
    """Less mass than this does not count as real: what hangs on it is not expanded."""
    max_rows: int | float
    """The most rows of one forward pass, per sequence."""
    max_passes: int | float
    """The most forward passes, per step."""
    num_tokens: int = 32
    """Of an expanded distribution this many best tokens count; the others leave the text as it is."""
    is_exact: bool = False
    """Whether text counts as closed only where it is proven that nothing can change how it is cut."""

    @classmethod
    def lifted(cls) -> Self:
        """No limit at all: every sequence of tokens is expanded to where nothing can change its first token."""
        return cls(min_mass=0.0, max_rows=math.inf, max_passes=math.inf, num_tokens=1 << 62, is_exact=True)
