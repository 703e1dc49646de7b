"""What one system reached in one task, with its interval, and what it cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deepen_llm.evaluation.estimates import Estimate, ratio_estimate, wilson_estimate
from deepen_llm.evaluation.requests import Answer


@dataclass(frozen=True)
class Scores:
    """A value for each question. Shares: 1 or 0, each of size 1. Bits per byte: bits, and the passage's bytes."""

    values: tuple[float, ...]
    sizes: tuple[float, ...]
    is_share: bool = True
    """Whether the values are right (1) and wrong (0) answers: then higher is better, else lower."""

    @classmethod
    def of_grades(cls, grades: Iterable[bool]) -> Scores:
        """Right answers."""
        values = tuple(map(float, grades))
        return cls(values, (1.0,) * len(values))

    @property
    def estimate(self) -> Estimate:
        """The values over the sizes: Wilson's interval for shares, else a bootstrap over the questions."""
        if self.is_share:
            return wilson_estimate(round(sum(self.values)), len(self.values))
        return ratio_estimate(self.values, self.sizes)

    def minus(self, other: Scores) -> Estimate:
        """How far this is above another system's on the same questions: a paired bootstrap.

        Raises:
            ValueError: The two did not answer the same questions.
        """
        if self.sizes != other.sizes:
            raise ValueError(
                f"both must have answered the same; got {len(self.sizes)} and {len(other.sizes)} questions"
            )
        return ratio_estimate([a - b for a, b in zip(self.values, other.values, strict=True)], self.sizes)


@dataclass(frozen=True)
class Cost:
    """What answers took: tokens generated or scored, and see `Answer`."""

    num_tokens: int
    seconds: float
    num_steps: int
    num_fused: int
    num_extra_rows: int
    num_extra_passes: int
    num_shortened: int
    """Requests whose prompts lost their beginning because the whole did not fit."""

    @classmethod
    def of(cls, answers: Sequence[Answer]) -> Cost:
        """The sum over answers."""
        return cls(
            num_tokens=sum(answer.num_tokens for answer in answers),
            seconds=sum(answer.seconds for answer in answers),
            num_steps=sum(answer.num_steps for answer in answers),
            num_fused=sum(answer.num_fused for answer in answers),
            num_extra_rows=sum(answer.num_extra_rows for answer in answers),
            num_extra_passes=sum(answer.num_extra_passes for answer in answers),
            num_shortened=sum(answer.is_shortened for answer in answers),
        )

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens generated or scored in a second; None where no time passed."""
        return self.num_tokens / self.seconds if self.seconds > 0 else None

    @property
    def fused_share(self) -> float | None:
        """The share of the steps in which the other members had a say; None where there was no step."""
        return self.num_fused / self.num_steps if self.num_steps else None
