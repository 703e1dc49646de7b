"""A member that belongs to somebody else: it may be used, and stays open when its user closes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from deepen_llm.members.base import Branch, Fork, Member, Pending
from deepen_llm.members.generation_defaults import GenerationDefaults
from deepen_llm.members.source import SourceReader


@final
class BorrowedMember(Member):
    """Hands everything on to a member but `close`: one set of loaded models serves several ensembles in turn.

    Only one of them may run at a time.
    """

    def __init__(self, lender: Member) -> None:
        self._lender = lender
        self.name = lender.name
        self.vocabulary = lender.vocabulary
        self.context_length = lender.context_length

    @property
    def kind(self) -> str:
        """The lender's."""
        return self._lender.kind

    @property
    def embeddings(self) -> Tensor | None:
        """The lender's."""
        return self._lender.embeddings

    @property
    def device(self) -> torch.device:
        """The lender's."""
        return self._lender.device

    @property
    def computes_beside(self) -> bool:
        """The lender's."""
        return self._lender.computes_beside

    @property
    def weight_bytes(self) -> int:
        """The lender's."""
        return self._lender.weight_bytes

    @property
    def shared_weight_bytes(self) -> int:
        """The lender's."""
        return self._lender.shared_weight_bytes

    @property
    def num_told(self) -> int | None:
        """The lender's."""
        return self._lender.num_told

    @property
    def num_parameters(self) -> int | None:
        """The lender's."""
        return self._lender.num_parameters

    @property
    def generation_defaults(self) -> GenerationDefaults:
        """The lender's."""
        return self._lender.generation_defaults

    @property
    def source_reader(self) -> SourceReader | None:
        """The lender's."""
        return self._lender.source_reader

    @property
    def cache_bytes_per_token(self) -> int | None:
        """The lender's."""
        return self._lender.cache_bytes_per_token

    @property
    def can_fork(self) -> bool:
        """The lender's."""
        return self._lender.can_fork

    @property
    def identity(self) -> Mapping[str, object]:
        """The lender's: the answers are the same."""
        return self._lender.identity

    def open(self) -> int:
        """A row of the lender's."""
        return self._lender.open()

    def open_over(self, source_ids: Sequence[int]) -> int:
        """A row of the lender's."""
        return self._lender.open_over(source_ids)

    def start_extend(
        self,
        tokens: Mapping[int, Sequence[int]],
        measured: Mapping[int, int] | None = None,
        *,
        temperature: float = 1.0,
    ) -> Pending:
        """As the lender does it."""
        return self._lender.start_extend(tokens, measured, temperature=temperature)

    @property
    def tells_each(self) -> bool:
        """Whether the lender does."""
        return self._lender.tells_each

    @property
    def token_cost(self) -> float:
        """The lender's."""
        return self._lender.token_cost

    def start_extend_each(self, tokens: Mapping[int, Sequence[int]], num_told: Mapping[int, int]) -> Pending:
        """As the lender does it."""
        return self._lender.start_extend_each(tokens, num_told)

    def start_peek(self, branches: Sequence[Branch]) -> Pending:
        """As the lender does it."""
        return self._lender.start_peek(branches)

    def rollback(self, row: int, num_tokens: int) -> None:
        """As the lender does it."""
        self._lender.rollback(row, num_tokens)

    def fork(self, row: int, num_back: int) -> Fork | None:
        """As the lender does it."""
        return self._lender.fork(row, num_back)

    def park(self, row: int) -> int:
        """As the lender does it."""
        return self._lender.park(row)

    def release(self, row: int) -> None:
        """As the lender does it."""
        self._lender.release(row)

    def close(self) -> None:
        """Nothing: whoever lent the member closes it."""
