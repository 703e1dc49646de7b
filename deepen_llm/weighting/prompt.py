"""Weights for one request: who predicts its prompt well counts more (after PackLLM, arXiv 2404.11531).

    weight_i = softmax over i of  -bits_i / temperature

bits_i are member i's bits per byte of the prompt. Per token they could not be compared: the same text is many tokens to
one member and few to another. How a text begins is not counted, since a model without a BOS cannot say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, final

import torch
from pydantic import Field

from deepen_llm.config.weighting import WeightingConfig
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.weighting.base import FixedWeights, Weighting

NUM_SKIPPED_BYTES = 8
"""Tokens that begin in so many first bytes are not counted."""
MIN_BYTES = 24
"""With fewer bytes that count, in some member, a prompt tells nothing: weights are uniform."""
MOST_BITS = 1e4
"""A byte of a prompt that a member rules out counts as no more, so that weights are numbers where all of them do."""


class PromptWeightingConfig(WeightingConfig):
    """Settings of weights by the prompt."""

    kind: Literal["prompt"] = "prompt"
    temperature: float = Field(default=0.2, gt=0.0, allow_inf_nan=False)
    """In bits per byte of the prompt: the lower, the more weight goes to who predicts best."""

    def build(self, members: Sequence[GuardedMember]) -> PromptWeighting:
        """See `WeightingConfig.build`."""
        return PromptWeighting(members, self.temperature)


@final
class PromptWeighting(Weighting):
    """Gives each request weights of its own, from one forward pass of every member over the prompt."""

    def __init__(self, members: Sequence[GuardedMember], temperature: float) -> None:
        """`temperature`, in bits per byte: the lower, the more goes to who predicts best."""
        self._members = tuple(members)
        self._temperature = temperature

    def begin(self, prompts: Sequence[Sequence[int]]) -> FixedWeights:
        """See `Weighting.begin`: the weights stay the same during the request."""
        pairs = list(zip(self._members, prompts, strict=True))
        counted = [_find_counted(member, ids) for member, ids in pairs]
        if any(sum(sizes.values()) < MIN_BYTES for sizes in counted):
            return FixedWeights((1.0 / len(pairs),) * len(pairs))
        bits = [_bits_per_byte(member, ids, sizes) for (member, ids), sizes in zip(pairs, counted, strict=True)]
        finite = torch.tensor(bits, dtype=torch.float64).clamp_max(MOST_BITS)
        weights = (-finite / self._temperature).softmax(dim=0)
        return FixedWeights(weights.tolist())


def _find_counted(member: GuardedMember, ids: Sequence[int]) -> dict[int, int]:
    """Places of the tokens that count, and their bytes. A special or unknown token is no text and has none."""
    sizes = [len(member.vocabulary.tokens[token_id] or b"") for token_id in ids]
    begins = accumulate(sizes, initial=0)
    places = enumerate(zip(sizes, begins, strict=False))
    return {place: size for place, (size, begin) in places if size and begin >= NUM_SKIPPED_BYTES}


def _bits_per_byte(member: GuardedMember, ids: Sequence[int], sizes: dict[int, int]) -> float:
    """How badly a member predicts the tokens that count: infinite where it rules one of them out."""
    logprobs = member.measure(ids)
    total = float(logprobs[[place - 1 for place in sizes]].double().sum())
    return -total / math.log(2) / sum(sizes.values())
