"""What one distribution reads as."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

from torch import Tensor

Path = tuple[int, ...]
"""A member's tokens since its last boundary."""


@dataclass(eq=False)
class RowReading:
    """What one distribution reads as, and what reading it took."""

    probs: Tensor
    """Over the main model's tokens `(num_main_logits,)`; with `rest` it sums to 1, or to 0 where nothing fits."""
    rest: Tensor | None = None
    """Over the member's own tokens that the main model cannot express `(num_logits,)`; None: there are none."""
    neglected: float = 0.0
    """The share of the mass that agrees with the open bytes so far as it was followed, but was not followed through
    them, or that spells what neither the main model's tokens nor one token of the member's own can express."""
    num_rows: int = 0
    num_passes: int = 0
    """What following took: rows, and forward passes that they were part of."""
    extended: list[bytes] = field(default_factory=list)
    """The texts that were extended."""
    speaks: bool = True
    """Whether anything fits."""


Asking = Generator[list[Path], dict[Path, Tensor], RowReading]
"""Yields the paths after which it needs the member's probs `(num_logits,)`, and is sent them."""
