"""One member as the methods see it that compare tokens by their bytes, and what is made of what they said."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor


@final
@dataclass(frozen=True, eq=False)
class BytewiseReader:
    """Turns a member's logits into logprobs over its different texts.

    Tokens with the same bytes count as one: the mass of all goes to one of them, and the others never come.
    """

    mask: Tensor
    """0 where a token may come, else `-inf`: `(num_logits,)`."""
    rounds: tuple[tuple[Tensor, Tensor], ...]
    """Ids that give their mass away, and the ids that get it; within a round nobody gets twice."""

    @classmethod
    def build(cls, counts_as: Tensor) -> Self:
        """The reader of one member.

        Args:
            counts_as: `(num_logits,)` int64: the id that each id counts for, mostly itself; -1 where none may come. On
                the device of the member's logits.
        """
        rounds: list[tuple[list[int], list[int]]] = []
        num_given: Counter[int] = Counter()
        for source, target in enumerate(counts_as.tolist()):
            if target not in (-1, source):
                if num_given[target] == len(rounds):
                    rounds.append(([], []))
                sources, targets = rounds[num_given[target]]
                sources.append(source)
                targets.append(target)
                num_given[target] += 1
        home = counts_as.device
        mask = torch.zeros(len(counts_as), device=home).masked_fill_(counts_as < 0, -torch.inf)
        tables = (
            (torch.tensor(sources, device=home), torch.tensor(targets, device=home)) for sources, targets in rounds
        )
        return cls(mask, tuple(tables))

    @property
    def num_bytes(self) -> int:
        """Memory of the tables."""
        return self.mask.nbytes + sum(ids.nbytes for pair in self.rounds for ids in pair)

    def read(self, logits: Tensor) -> Tensor:
        """Logprobs `(batch, num_logits)`, float32, where the tables are."""
        logprobs = torch.log_softmax(logits.float() + self.mask, dim=-1)
        for sources, targets in self.rounds:
            together = logprobs[:, sources].logaddexp(logprobs[:, targets])
            logprobs = logprobs.index_copy(1, targets, together).index_fill(1, sources, -torch.inf)
        return logprobs


@final
@dataclass(frozen=True)
class Verdict:
    """How far to believe what was fused."""

    trust: float
    """From 0, the main model alone, to 1, what was fused; in logprobs."""
    main_ends: bool
    """Leave a row to the main model where its own best token is end-of-sequence."""
    eos_ids: tuple[int, ...]
    """The main model's end-of-sequence."""

    def settle(self, alone: Tensor, fused: Tensor) -> Tensor:
        """The answer from the main model's own logprobs and the fused ones, both `(batch, num_logits_main)`.

        A row in which nothing was fused (`-inf` throughout) is the main model's.
        """
        nothing = (fused == -torch.inf).all(dim=-1, keepdim=True)
        if self.main_ends:
            ends = torch.tensor(self.eos_ids, device=alone.device)
            nothing |= (alone.argmax(dim=-1, keepdim=True) == ends).any(dim=-1, keepdim=True)
        if self.trust == 0:
            return alone
        if self.trust < 1:
            fused = (1 - self.trust) * alone + self.trust * fused
        return torch.where(nothing, alone, torch.log_softmax(fused, dim=-1))


def renormalize(logprobs: Tensor) -> Tensor:
    """Each row made to sum to 1 again; a row of `-inf` alone stays one."""
    total = logprobs.logsumexp(dim=-1, keepdim=True)
    return torch.where(total == -torch.inf, logprobs, logprobs - total)


def select(logprobs: Tensor, ids: Tensor) -> Tensor:
    """The logprobs `(batch, n)` of `ids`, `(n,)` or `(batch, n)`; `-inf` where an id is -1."""
    picked = logprobs.gather(1, ids.clamp_min(0).expand(len(logprobs), -1))
    return picked.masked_fill(ids < 0, -torch.inf)
