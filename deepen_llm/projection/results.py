"""What one distribution comes to over the main model's tokens, and what is asked of the member on the way."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

from torch import Tensor

Path = tuple[int, ...]
"""A member's tokens since its last boundary."""


@dataclass(eq=False)
class Projection:
    """One distribution over the main model's tokens, and what that took."""

    probs: Tensor
    """Over the main model's tokens `(num_main_logits,)`; with `residual` it sums to 1, or to 0 where nothing fits."""
    residual: Tensor | None = None
    """Over the member's own tokens that the main model cannot express `(num_logits,)`; None: there are none."""
    mass: float = 1.0
    """The probability of the pending bytes, what was truncated left out."""
    truncated_mass: float = 0.0
    """The share of the mass that agrees with the pending bytes so far as it was expanded, but was not expanded through
    them, or that spells what neither the main model's tokens nor one token of the member's own can express."""
    num_rows: int = 0
    num_passes: int = 0
    """What expansion took: rows, and forward passes that they were part of."""
    expanded: list[bytes] = field(default_factory=list)
    """The texts that were expanded."""
    has_mass: bool = True
    """Whether anything fits."""


Queries = Generator[list[Path], dict[Path, Tensor], Projection]
"""Yields the paths after which it needs the member's probs `(num_logits,)`, and is sent them."""
