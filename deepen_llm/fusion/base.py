"""What every fusion method does: the members' logits go in, one distribution over the main vocabulary comes out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor


class FusionMethod(ABC):
    """Turns the members' next-token logits into log-probabilities over the main model's vocabulary."""

    @abstractmethod
    def fuse(self, logits: Sequence[Tensor]) -> Tensor:
        """The fused next-token distribution, row by row; a row never depends on the other rows of the batch.

        Args:
            logits: One tensor a member, `(batch, num_logits_i)`, in the order of the members, of any float dtype and
                on any device. Left unchanged. They must be free of NaN and +infinity; the caller checks.

        Returns:
            Logprobs `(batch, num_logits_main)`, float32, on the main model's device; `-inf` where a token must never
            come (special and padded tokens; end-of-sequence may come).
        """

    @property
    @abstractmethod
    def num_bytes(self) -> int:
        """Memory that the method holds beside the models."""
