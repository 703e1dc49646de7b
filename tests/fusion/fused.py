"""A fusion method in its frame, given logits and projections as the engine gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deepen_llm.fusion.base import Distribution, Distributions, FusionMethod, Step
from deepen_llm.fusion.frame import FusionFrame
from deepen_llm.fusion.tokens import CanonicalTokens


@dataclass
class Given:
    """What a member's distribution was projected to."""

    probs: Tensor
    residual: Tensor | None = None
    has_mass: Tensor | None = None
    """`(batch,)` bool: where anything can be said of the member; None: everywhere."""

    def rows(self, rows: slice) -> Given:
        parts = (self.probs, self.residual, self.has_mass)
        return Given(*(None if part is None else part[rows] for part in parts))


class Fused:
    """Fuses token by token, or what was projected, under weights for all rows or one row each."""

    def __init__(
        self,
        method: FusionMethod,
        canonical_ids: Sequence[Sequence[int]],
        *,
        main: int = 0,
        weights: Sequence[float] | None = None,
        trust: float = 1.0,
        main_ends: bool = False,
        eos_ids: Sequence[int] = (),
        devices: Sequence[torch.device] | None = None,
    ) -> None:
        self.method, self.main = method, main
        self.weights = list(weights or [1 / len(canonical_ids)] * len(canonical_ids))
        homes = devices or [torch.device("cpu")] * len(canonical_ids)
        tokens = [CanonicalTokens.build(ids, home) for ids, home in zip(canonical_ids, homes, strict=True)]
        self.frame = FusionFrame(method, tokens, main, trust=trust, main_ends=main_ends, eos_ids=eos_ids)

    @property
    def num_bytes(self) -> int:
        return self.frame.num_bytes

    def fuse(self, logits: Sequence[Tensor], weights: Tensor | None = None) -> Tensor:
        """Token by token."""
        others = [self.frame.read_tokens(i, rows) for i, rows in enumerate(logits) if i != self.main]
        return self.finish(logits[self.main], others, weights)

    def fuse_projected(self, logits: Tensor, given: Sequence[Given | None], weights: Tensor | None = None) -> Tensor:
        """What was projected, None for the main model and for members that take no part."""
        merge = self.frame.tokens[self.main].merge
        others = [
            Distribution(
                index,
                merge(one.probs.clone()),
                one.residual,
                () if one.has_mass is None else (~one.has_mass).nonzero().flatten().tolist(),
            )
            for index, one in enumerate(given)
            if one is not None
        ]
        return self.finish(logits, others, weights)

    def finish(self, logits: Tensor, others: Sequence[Distribution], weights: Tensor | None) -> Tensor:
        logprobs = self.frame.read_main(logits)
        if weights is None:
            weights = torch.tensor([self.weights] * len(logprobs))
        given = Distributions(self.main, logprobs, logprobs.exp(), others, len(self.weights))
        return self.frame.fuse(Step.build(given, weights), logprobs)
