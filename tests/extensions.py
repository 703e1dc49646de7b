"""What a stranger adds: a fusion method, a kind of member and a way to weigh, each its settings and what they build.

`docs/structure.md` shows them; `test_extension_points.py` registers each with one line and runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from deepen_llm.config import MemberConfig, WeightingConfig
from deepen_llm.config.fusion import ProjectingConfig
from deepen_llm.fusion.base import FusionMethod, Step, normalize
from deepen_llm.testing import ScriptedMember
from deepen_llm.vocabulary import Vocabulary
from deepen_llm.weighting.base import Weighting, Weights
from tests import toy_tokenizers


class BoldestConfig(ProjectingConfig):
    """Settings of `BoldestFusion`."""

    method: Literal["boldest"] = "boldest"
    floor: float = Field(default=1e-6, gt=0.0)
    """The least probability of a token."""

    def build(self, members, main) -> FusionMethod:
        return BoldestFusion(self.floor)


class BoldestFusion(FusionMethod):
    """Each token gets the most that any member with weight gives it: q(t) ~ max_i q_i(t)."""

    def __init__(self, floor: float) -> None:
        self._floor = floor

    def combine(self, step: Step) -> Tensor:
        most = step.probs
        for other in step.others:
            most = torch.where(step.weight(other.member) > 0, most.maximum(other.projected), most)
        return normalize(most.clamp_min(self._floor).log().masked_fill(step.logprobs == -torch.inf, -torch.inf))


class ParrotConfig(MemberConfig):
    """Settings of a member that goes on with one text."""

    kind: Literal["parrot"] = "parrot"
    text: str
    """What it knows."""

    def load(self) -> ScriptedMember:
        tokenizer = toy_tokenizers.unigram()
        return ScriptedMember(Vocabulary.from_tokenizer(tokenizer, name=self.name or self.model), [self.text])


class LoserConfig(WeightingConfig):
    """Settings of weights that punish whoever was surprised."""

    kind: Literal["loser_pays"] = "loser_pays"
    price: float = Field(default=0.5, gt=0.0, lt=1.0)
    """What is left of the weight of the member that gave the last word least."""

    def build(self, members) -> Weighting:
        return LoserPays(len(members), self.price)


class LoserPays(Weighting):
    def __init__(self, num_members: int, price: float) -> None:
        self._num_members, self._price = num_members, price

    def begin(self) -> Weights:
        return LoserPaysWeights((1 / self._num_members,) * self._num_members, self._price)


class LoserPaysWeights(Weights):
    def __init__(self, weights: tuple[float, ...], price: float) -> None:
        self._weights, self._price = weights, price

    @property
    def current(self) -> tuple[float, ...]:
        return self._weights

    def after_word(self, given: Sequence[float]) -> Weights:
        if min(given) == max(given):
            return self  # nobody lost; so it is, too, where all others rest
        weights = list(self._weights)
        weights[min(range(len(given)), key=given.__getitem__)] *= self._price
        return LoserPaysWeights(tuple(weight / sum(weights) for weight in weights), self._price)
