"""Fusion without the relative space: the members' distributions as text, averaged as they are.

One step, with t over the main model's tokens, p the main model's probs, and q_i member i's, projected onto the main
model's tokens; what these cannot express of it counts for p:

    arithmetic:  sum_i weight_i q_i(t)
    geometric:   prod_i q_i(t) ^ weight_i, normalized

The arithmetic mean is safe; the geometric one gains where projections are exact and loses where they are not, since a
token that one member's projection leaves out is then as good as ruled out. `FLOOR` keeps it from that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Self, final

import torch
from pydantic import model_validator
from torch import Tensor

from deepen_llm.config.fusion import ProjectingConfig
from deepen_llm.fusion.base import Distribution, FusionMethod, Step

if TYPE_CHECKING:
    from deepen_llm.members.base import Member

Mean = Literal["arithmetic", "geometric"]

FLOOR = 1e-6
"""The least probability of a token under the geometric mean."""


class TextConfig(ProjectingConfig):
    """Settings of fusion as text."""

    is_drawable = True

    method: Literal["text"] = "text"
    mean: Mean = "arithmetic"
    """The mean of the members' probabilities."""

    @model_validator(mode="after")
    def _check_mean(self) -> Self:
        if self.fuse == "drawn" and self.mean != "arithmetic":
            raise ValueError(
                f"fuse='drawn' draws one member for each word, which no mean={self.mean!r} is: write "
                "mean='arithmetic', or fuse='always'"
            )
        return self

    def build(self, members: Sequence[Member], main: int) -> TextFusion:
        """See `FusionConfig.build`: it works for any members."""
        del members, main
        return TextFusion(self.mean)


@final
class TextFusion(FusionMethod):
    """The mean of the members' projected distributions."""

    def __init__(self, mean: Mean = "arithmetic") -> None:
        self._mean = mean

    def combine(self, step: Step) -> Tensor:
        """See `FusionMethod.combine`."""
        if self._mean == "arithmetic":
            mean = step.weight(step.main) * step.probs
            for other in step.others:
                mean = mean.addcmul(step.weight(other.member), _complete(other, step))
            return mean.log_()
        logs = step.weight(step.main) * step.logprobs  # 0 * -inf is no number, and is masked below
        for other in step.others:
            logs = logs + step.weight(other.member) * _complete(other, step).clamp_min(FLOOR).log()
        return torch.log_softmax(logs.masked_fill(step.logprobs == -torch.inf, -torch.inf), dim=-1)


def _complete(other: Distribution, step: Step) -> Tensor:
    """A member's probs over the main model's tokens `(batch, num_main_logits)`, made to sum to 1.

    Raises:
        ValueError: It was not projected.
    """
    if other.projected is None:
        raise ValueError(f"the mean over text needs projected distributions; that of member {other.member} is not")
    if other.own is None:
        return other.projected
    return other.projected.addcmul(other.own.sum(dim=-1, keepdim=True).to(step.probs.device), step.probs)
