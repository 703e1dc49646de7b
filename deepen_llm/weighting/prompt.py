"""Weights for one request: who predicts its prompt well counts more (after PackLLM, arXiv 2404.11531).

    weight_i = softmax over i of  ln prior_i - bits_i / temperature

bits_i are member i's bits per byte of the prompt, and the prior is uniform unless a request names another. Per token
they could not be compared: the same text is many tokens to one member and few to another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, final

import torch
from pydantic import Field

from deepen_llm.config.weighting import WeightingConfig
from deepen_llm.weighting.base import FixedWeights, GivenWord, Weighting, Weights

if TYPE_CHECKING:
    from deepen_llm.members.guarded import GuardedMember

MIN_BYTES = 24
"""A prompt with fewer bytes that all members have measured tells nothing: weights are the prior."""
MOST_BITS = 1e4
"""A byte of a prompt that a member rules out counts as no more, so that weights are numbers where all of them do."""


class PromptWeightingConfig(WeightingConfig):
    """Settings of weights by the prompt."""

    learns = False

    kind: Literal["prompt"] = "prompt"
    temperature: float = Field(default=0.2, gt=0.0, allow_inf_nan=False)
    """In bits per byte of the prompt: the lower, the more weight goes to who predicts best."""

    def build(self, members: Sequence[GuardedMember]) -> PromptWeighting:
        """See `WeightingConfig.build`."""
        return PromptWeighting(len(members), self.temperature)


@final
class PromptWeighting(Weighting):
    """Gives each request weights of its own, from what every member gives the prompt as it reads it."""

    reads_prompt = True

    def __init__(self, num_members: int, temperature: float) -> None:
        """`temperature`, in bits per byte: the lower, the more goes to who predicts best."""
        self._temperature = temperature
        self._start = self.begin_with((1.0 / num_members,) * num_members)

    def begin(self) -> PromptWeights:
        """See `Weighting.begin`."""
        return self._start

    def begin_with(self, prior: Sequence[float]) -> PromptWeights:
        """See `Weighting.begin_with`."""
        return PromptWeights(prior, self._temperature)


@final
class PromptWeights(Weights):
    """The prior, until the prompt is read."""

    def __init__(self, prior: Sequence[float], temperature: float) -> None:
        self._prior, self._temperature = tuple(prior), temperature

    @property
    def current(self) -> tuple[float, ...]:
        """See `Weights.current`."""
        return self._prior

    def after_prompt(self, words: Sequence[GivenWord]) -> Weights:
        """See `Weights.after_prompt`: they stay the same from there on."""
        num_bytes = sum(word.num_bytes for word in words)
        if num_bytes < MIN_BYTES:
            return self
        nats = torch.tensor([word.logprobs for word in words], dtype=torch.float64).sum(dim=0)
        bits = (-nats / math.log(2) / num_bytes).clamp_max(MOST_BITS)
        prior = torch.tensor(self._prior, dtype=torch.float64)
        told = ~nats.isnan()  # the others keep their weights
        share = prior[told].sum()
        prior[told] = share * (prior.log() - bits / self._temperature)[told].softmax(dim=0)
        return FixedWeights(prior.tolist())
