"""The rows of one model: how cached context is kept, fed, taken back and freed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor

from deepen_llm.members.base import Branch


class Rows(ABC):
    """Running rows of one model, by handles that the member gives out. A row begins when it is first fed."""

    @property
    @abstractmethod
    def bytes_per_token(self) -> int | None:
        """Memory that each cached token takes; None where the cache does not grow with the text."""

    @abstractmethod
    def extend(self, tokens: Mapping[int, Sequence[int]]) -> Tensor:
        """Feed the rows their tokens (at least one per row).

        Returns:
            Logits after each row's last token, (len(tokens), num_logits), in the order of the mapping.
        """

    @abstractmethod
    def peek(self, branches: Sequence[Branch]) -> Tensor:
        """Logits after other tokens, (len(branches), num_logits); no row is changed."""

    @abstractmethod
    def rollback(self, row: int, num_tokens: int) -> None:
        """Forget the last `num_tokens` tokens of a row."""

    @abstractmethod
    def release(self, row: int) -> None:
        """Free a row; a row that never ran has nothing to free."""
