"""What every way to weigh does: begin with a request, change during it, tell what the weights are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, final


class Weights(ABC):
    """The weights in one request. Called from the engine's thread."""

    @property
    @abstractmethod
    def current(self) -> tuple[float, ...]:
        """One weight per member, not negative, summing to 1: those of the next step, and of the report."""

    def update(self, given: Sequence[float]) -> None:  # noqa: B027  (most weights stay as they begin)
        """Take in a fused token.

        Args:
            given: The probability that each member gave it, in their order.
        """


class Weighting(ABC):
    """Gives every request its weights."""

    learns: ClassVar[bool] = False
    """Whether `Weights.update` is to be called; what it is told costs a little at every step."""

    @abstractmethod
    def begin(self, prompts: Sequence[Sequence[int]]) -> Weights:
        """The weights of a request that begins.

        Args:
            prompts: The prompt's tokens, one row per member.

        Raises:
            MemberError: A member failed.
            NumericalError: A member's logits hold NaN.
        """


@final
class FixedWeights(Weights):
    """Weights that stay as they are."""

    def __init__(self, weights: Sequence[float]) -> None:
        """`weights` are one per member, summing to 1."""
        self._weights = tuple(weights)

    @property
    def current(self) -> tuple[float, ...]:
        """The weights."""
        return self._weights


@final
class FixedWeighting(Weighting):
    """The same weights for every request."""

    def __init__(self, weights: Sequence[float]) -> None:
        """`weights` are one per member, summing to 1."""
        self._weights = FixedWeights(weights)

    def begin(self, prompts: Sequence[Sequence[int]]) -> Weights:
        """The weights, whatever the prompt."""
        del prompts
        return self._weights
