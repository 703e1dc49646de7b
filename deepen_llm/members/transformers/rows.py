"""The rows of one model: how cached context is kept, fed, taken back and freed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from deepen_llm.members.base import Branch

MEASURED_AT_ONCE = 256
"""A long prompt's logits in float32 would take more memory than some models."""


class Extended(NamedTuple):
    """What feeding rows gives."""

    logits: Tensor
    """After each row's last token, (rows, num_logits)."""
    measured: dict[int, Tensor]
    """By row, the natural-log probabilities that were asked for: `(num,)`, float32, on the CPU."""


class Rows(ABC):
    """Running rows of one model, by handles that the member gives out. A row begins when it is first fed."""

    @property
    @abstractmethod
    def bytes_per_token(self) -> int | None:
        """Memory that each cached token takes; None where the cache does not grow with the text."""

    @abstractmethod
    def extend(
        self, tokens: Mapping[int, Sequence[int]], measured: Mapping[int, int], *, temperature: float = 1.0
    ) -> Extended:
        """Feed the rows their tokens (at least one per row), in the order of the mapping.

        Args:
            tokens: By row.
            measured: By row, how many of its last tokens are measured: see `Member.start_extend`.
            temperature: They are measured at.
        """

    tells_each: ClassVar[bool] = False
    """Whether rows are fed several tokens in one pass, and taken back, for little more than one."""

    def extend_each(self, tokens: Mapping[int, Sequence[int]], num_told: Mapping[int, int]) -> Tensor:
        """See `Member.start_extend_each`; for rows with `tells_each`."""
        raise TypeError(f"these rows tell one place each; asked for {dict(num_told)} of {list(tokens)}")

    @abstractmethod
    def peek(self, branches: Sequence[Branch]) -> Tensor:
        """Logits after other tokens, (len(branches), num_logits); no row is changed."""

    @abstractmethod
    def rollback(self, row: int, num_tokens: int) -> None:
        """Forget the last `num_tokens` tokens of a row."""

    @abstractmethod
    def fork(self, row: int, new: int, num_back: int) -> int | None:
        """Begin the row `new` with what another holds but for its last tokens: see `Member.fork`.

        Returns:
            How many of the other's last tokens it does not hold; None where it did not begin.
        """

    @abstractmethod
    def park(self, row: int) -> int:
        """Set a row aside, to be forked and released only; how many bytes it takes."""

    @abstractmethod
    def release(self, row: int) -> None:
        """Free a row; a row that never ran has nothing to free."""


def measure(logits: Tensor, ids: Sequence[int], temperature: float = 1.0) -> Tensor:
    """The natural-log probability of each token under the logits (len(ids), num_logits), divided by a temperature.

    On the CPU, (len(ids),).
    """
    said = torch.tensor(list(ids), device=logits.device)
    pieces = zip(torch.split(logits, MEASURED_AT_ONCE), torch.split(said, MEASURED_AT_ONCE), strict=True)
    found = [
        _temper(rows.float(), temperature).log_softmax(dim=-1).gather(1, ids[:, None])[:, 0] for rows, ids in pieces
    ]
    return torch.cat(found).cpu()


def _temper(logits: Tensor, temperature: float) -> Tensor:
    return logits if temperature == 1 else logits / temperature
