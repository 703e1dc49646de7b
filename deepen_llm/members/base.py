"""What the engine asks of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from deepen_llm.vocabulary import Vocabulary

Branch = tuple[int, int, Sequence[int]]
"""A row, a number of its last tokens, and the tokens in their place."""


class Member(ABC):
    """One model of an ensemble: a vocabulary, input embeddings, and rows of cached context.

    The engine opens a row for each sequence, feeds it the tokens that it has not seen yet, takes tokens back where
    the text turns out to be cut otherwise, and releases it. One thread at a time calls a member.
    """

    name: str
    vocabulary: Vocabulary
    context_length: int
    """The most tokens that a row can hold."""

    @property
    @abstractmethod
    def embeddings(self) -> Tensor:
        """The input embeddings, (rows, hidden); rows may be more or fewer than there are logits."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where `extend` leaves its logits."""

    @property
    def allowed(self) -> Tensor:
        """The tokens that may come, those with bytes and end-of-sequence: `(num_logits,)` bool, on the CPU."""
        allowed = torch.tensor([token is not None for token in self.vocabulary.tokens])
        allowed[list(self.vocabulary.eos_ids)] = True
        return allowed

    @property
    @abstractmethod
    def weight_bytes(self) -> int:
        """Memory of the weights."""

    @property
    @abstractmethod
    def cache_bytes_per_token(self) -> int | None:
        """Memory that each cached token takes; None where the cache does not grow with the text."""

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, object]:
        """What tells this member's answers from another's, as JSON values. No secrets."""

    @abstractmethod
    def open(self) -> int:
        """Begin an empty row and return its handle."""

    @abstractmethod
    def extend(self, tokens: Mapping[int, Sequence[int]]) -> Tensor:
        """Feed each row its new tokens (at least one a row), in one forward pass.

        Returns:
            Logits after each row's last token, (len(tokens), num_logits), in the order of the mapping.
        """

    @abstractmethod
    def peek(self, branches: Sequence[Branch]) -> Tensor:
        """What the member would say after other tokens, in one forward pass; no row is changed.

        Args:
            branches: Each a row, how many of its last tokens to leave out, and the tokens to put there (at least one).

        Returns:
            Logits after each branch's last token, (len(branches), num_logits).
        """

    @abstractmethod
    def measure(self, ids: Sequence[int]) -> Tensor:
        """How well the member predicts tokens, in one forward pass beside its rows; no row is changed.

        Args:
            ids: At most as many as a row can hold.

        Returns:
            The natural-log probability of each token but the first, after all those before it: `(len(ids) - 1,)`,
            float32, on the CPU; empty where there are less than two.
        """

    @abstractmethod
    def rollback(self, row: int, num_tokens: int) -> None:
        """Forget the last `num_tokens` tokens of a row."""

    @abstractmethod
    def release(self, row: int) -> None:
        """End a row and free its cache at once."""

    @abstractmethod
    def close(self) -> None:
        """Free the model. The member cannot be used afterwards."""
