"""One member's tokens as fusion sees them: which may come, and which count as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor


@final
@dataclass(frozen=True, eq=False)
class CanonicalTokens:
    """Makes a member's logits a distribution over its different tokens.

    Of tokens that count as one, all mass goes to one of them, and the others never come.
    """

    mask: Tensor
    """0 where a token may come, else `-inf`: `(num_logits,)` float32, where the member's logits are."""
    canonical_ids: Sequence[int]
    """For each logit the id that it counts for, mostly itself; -1 where none may come."""
    merges: tuple[tuple[Tensor, Tensor], ...]
    """Ids that give their mass away, and the ids that get it; in each pair no id gets it twice."""

    @classmethod
    def build(cls, canonical_ids: Sequence[int], device: torch.device) -> Self:
        """The tokens of one member.

        Args:
            canonical_ids: See above, and `deepen_llm.vocabulary.canonical`.
            device: Where the member's logits are.
        """
        rounds: list[tuple[list[int], list[int]]] = []
        num_given: Counter[int] = Counter()
        for source, target in enumerate(canonical_ids):
            if target not in (-1, source):
                if num_given[target] == len(rounds):
                    rounds.append(([], []))
                sources, targets = rounds[num_given[target]]
                sources.append(source)
                targets.append(target)
                num_given[target] += 1
        may_come = torch.tensor([target >= 0 for target in canonical_ids], device=device)
        mask = torch.zeros(len(canonical_ids), device=device).masked_fill_(~may_come, -torch.inf)
        merges = tuple((torch.tensor(a, device=device), torch.tensor(b, device=device)) for a, b in rounds)
        return cls(mask, canonical_ids, merges)

    @property
    def num_bytes(self) -> int:
        """Memory of the tables."""
        return self.mask.nbytes + sum(ids.nbytes for pair in self.merges for ids in pair)

    def logprobs(self, logits: Tensor) -> Tensor:
        """Logprobs `(batch, num_logits)`, float32, of logits of any float dtype, where these are."""
        logprobs = torch.log_softmax(logits.float() + self.mask, dim=-1)
        for sources, targets in self.merges:
            together = logprobs[:, sources].logaddexp(logprobs[:, targets])
            logprobs.index_copy_(1, targets, together).index_fill_(1, sources, -torch.inf)
        return logprobs

    def probs(self, logits: Tensor) -> Tensor:
        """The same as probs."""
        return self.merge(torch.softmax(logits.float() + self.mask, dim=-1))

    def merge(self, probs: Tensor) -> Tensor:
        """Probs `(batch, num_logits)`, which are changed, with the mass of tokens that count as one on one of them."""
        for sources, targets in self.merges:
            probs.index_add_(1, targets, probs[:, sources]).index_fill_(1, sources, 0.0)
        return probs
