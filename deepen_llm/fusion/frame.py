"""What is the same under every fusion method, around its equation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from deepen_llm.fusion.base import Distribution, FusionMethod, Step
from deepen_llm.fusion.tokens import CanonicalTokens


@final
class FusionFrame:
    """Reads the members' logits, hands the method what counts, and decides how far to trust what it makes of that."""

    def __init__(
        self,
        method: FusionMethod | None,
        tokens: Sequence[CanonicalTokens],
        main: int,
        *,
        trust: float = 1.0,
        main_ends: bool = False,
        eos_ids: Sequence[int] = (),
    ) -> None:
        """Take what holds at every step.

        Args:
            method: The equation; None for an ensemble of one.
            tokens: One per member.
            main: Position of the main model.
            trust: From 0, the main model's own logprobs, to 1, the fused ones; between them, in logprobs.
            main_ends: Leave a row to the main model where its own best token is end-of-sequence.
            eos_ids: The main model's end-of-sequence.
        """
        self.method = method
        self.tokens = tuple(tokens)
        self._main, self._trust, self._main_ends = main, trust, main_ends
        self._eos_ids = torch.tensor(list(eos_ids), dtype=torch.int64, device=tokens[main].mask.device)

    @property
    def num_bytes(self) -> int:
        """Memory that fusion holds beside the models."""
        tables = sum(tokens.num_bytes for tokens in self.tokens)
        return tables + (0 if self.method is None else self.method.num_bytes)

    def read_main(self, logits: Tensor) -> Tensor:
        """The main model's logprobs `(batch, num_main_logits)`, float32, of its logits."""
        return self.tokens[self._main].logprobs(logits)

    def read_tokens(self, member: int, logits: Tensor) -> Distribution:
        """A member's distribution token by token, of its logits `(batch, num_logits)`."""
        return Distribution(member, None, self.tokens[member].probs(logits))

    def read_namesake(self, member: int, logits: Tensor) -> Distribution:
        """The distribution of a member with the main model's own vocabulary: its tokens are the main model's."""
        tokens = self.tokens[self._main]
        return Distribution(member, tokens.probs(logits.to(tokens.mask.device)), None)

    def fuse(self, step: Step, alone: Tensor) -> Tensor:
        """The fused logprobs `(batch, num_main_logits)`, float32, on the main model's device.

        Args:
            step: The members' distributions and weights.
            alone: The main model's own logprobs, which are the answer where nothing is fused.
        """
        if self.method is None or not step.others or self._trust == 0:
            return alone
        fused = self.method.combine(step)
        keeps_main = self._keeps_main(step, alone, fused)
        if self._trust < 1:
            fused = torch.log_softmax((1 - self._trust) * alone + self._trust * fused, dim=-1)
        return fused if keeps_main is None else torch.where(keeps_main, alone, fused)

    def _keeps_main(self, step: Step, alone: Tensor, fused: Tensor) -> Tensor | None:
        """Rows that are the main model's, `(batch, 1)` bool; None where there is certainly none."""
        found = [] if step.is_alone is None else [step.is_alone]
        if self._main_ends:
            found.append((alone.argmax(dim=-1, keepdim=True) == self._eos_ids).any(dim=-1, keepdim=True))
        if self._method_may_be_empty:
            found.append(fused.amax(dim=-1, keepdim=True) == -torch.inf)
        return torch.stack(found).any(dim=0) if found else None

    @property
    def _method_may_be_empty(self) -> bool:
        return self.method is not None and self.method.may_be_empty
