"""What goes to an actor and comes back from it: token ids there, the best tokens of every row back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self, final

import numpy as np
import torch
from torch import Tensor

from deepen_llm.members.base import Branch
from deepen_llm.members.generation_defaults import GenerationDefaults
from deepen_llm.members.summary import Summary
from deepen_llm.vocabulary import Vocabulary

ID_BYTES = 3
"""A token id takes three bytes of its four: vocabularies have far fewer than 16 million tokens."""


class Change(NamedTuple):
    """What became of a row between two passes."""

    row: int
    num_back: int | None
    """How many tokens are taken back; None: the row has ended."""


@final
@dataclass(frozen=True, slots=True)
class Asked:
    """A forward pass, and what is to be done before it: changes of rows have no call of their own."""

    changes: tuple[Change, ...] = ()
    tokens: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """What rows are fed; a row that the actor does not know begins."""
    branches: Sequence[Branch] = ()
    """In place of tokens: what a peek looks at."""
    measured: Mapping[int, int] = field(default_factory=dict)
    """As in `Member.start_extend`."""
    temperature: float = 1.0

    @property
    def rows(self) -> set[int]:
        """The rows that the pass is about."""
        return {*self.tokens, *(branch.row for branch in self.branches)}


@final
@dataclass(frozen=True, slots=True)
class Told:
    """What a pass gave, as bytes: 7 for each token that is told."""

    num_rows: int
    ids: bytes
    logprobs: bytes
    measured: Mapping[int, bytes]

    @classmethod
    def pack(cls, summary: Summary, measured: Mapping[int, Tensor]) -> Self:
        """A summary, and the natural-log probabilities that were measured."""
        ids = summary.ids.numpy().astype("<i4").reshape(-1, 1).view(np.uint8)[:, :ID_BYTES]
        return cls(
            len(summary.ids),
            ids.tobytes(),
            summary.logprobs.numpy().astype("<f4").tobytes(),
            {row: logprobs.numpy().astype("<f4").tobytes() for row, logprobs in measured.items()},
        )

    def unpack(self) -> tuple[Summary, dict[int, Tensor]]:
        """What was packed."""
        ids = np.zeros((len(self.ids) // ID_BYTES, 4), np.uint8)
        ids[:, :ID_BYTES] = np.frombuffer(self.ids, np.uint8).reshape(-1, ID_BYTES)
        told = torch.from_numpy(ids.view("<i4").astype(np.int32)).reshape(self.num_rows, -1)
        return Summary(told, _read_floats(self.logprobs).reshape(told.shape)), {
            row: _read_floats(logprobs) for row, logprobs in self.measured.items()
        }


@final
@dataclass(frozen=True, slots=True)
class Table:
    """The shape of the input embeddings, which come in pieces when they are asked for."""

    num_rows: int
    hidden: int
    dtype: torch.dtype

    def unpack(self, piece: bytes) -> Tensor:
        """Some rows `(num, hidden)` as `MemberActor.read_embeddings` gives them."""
        return torch.frombuffer(bytearray(piece), dtype=self.dtype).reshape(-1, self.hidden)


@final
@dataclass(frozen=True, slots=True)
class Description:
    """What a member in an actor tells of itself, once."""

    vocabulary: Vocabulary
    context_length: int
    weight_bytes: int
    num_parameters: int | None
    cache_bytes_per_token: int | None
    generation_defaults: GenerationDefaults
    identity: dict[str, object]
    embeddings: Table | None


def _read_floats(data: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(data, "<f4").astype(np.float32))
