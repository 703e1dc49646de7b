"""What every fusion method does: the members' logits go in, one distribution over the main vocabulary comes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor


class FusionMethod(ABC):
    """Turns the members' next-token logits into log-probabilities over the main model's vocabulary."""

    @abstractmethod
    def fuse(self, logits: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
        """The fused next-token distribution, row by row; a row never depends on the other rows of the batch.

        Args:
            logits: One tensor a member, `(batch, num_logits_i)`, in the order of the members, of any float dtype and
                on any device. Left unchanged. They must be free of NaN and +infinity; the caller checks.
            weights: Each row's own, `(batch, num_members)`, not negative, rows summing to 1, on any device; None takes
                those that the method was built with.

        Returns:
            Logprobs `(batch, num_logits_main)`, float32, on the main model's device; `-inf` where a token must never
            come (special and padded tokens; end-of-sequence may come).
        """

    @property
    @abstractmethod
    def num_bytes(self) -> int:
        """Memory that the method holds beside the models."""


@final
@dataclass(frozen=True, eq=False)
class Reading:
    """A member's next-token distributions, read in the main model's tokens."""

    probs: Tensor
    """`(batch, num_logits_main)`, float32, on any device. A member with the main model's own vocabulary is read as it
    is; of any other, end-of-sequence is the main model's first."""
    rest: Tensor | None
    """Probs of the member's own tokens that the main model cannot express `(batch, num_logits)`; None: there are none.
    With `probs` they sum to 1."""
    speaks: Tensor | None = None
    """`(batch,)` bool: where the member has anything to say; elsewhere the main model gets its weight. None: always."""


class ReadingMethod(FusionMethod):
    """A fusion method that takes members' distributions read as text, too."""

    @abstractmethod
    def fuse_readings(
        self, logits: Tensor, readings: Sequence[Reading | None], weights: Tensor | None = None
    ) -> Tensor:
        """As `fuse`, where every member but the main model was read.

        Args:
            logits: The main model's, `(batch, num_logits)`.
            readings: One a member in the order of the members, None for the main model.
            weights: As in `fuse`.
        """
