"""What goes to an actor and comes back from it: token ids there, the best tokens of every row back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepen_llm.members.base import Branch
from deepen_llm.members.generation_defaults import GenerationDefaults
from deepen_llm.members.source import SourceReader
from deepen_llm.members.summary import Summary
from deepen_llm.vocabulary import Vocabulary


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
    sources: Mapping[int, Sequence[int]] = field(default_factory=dict)
    """For rows that begin over a source, what the encoder reads: see `Member.open_over`."""

    @property
    def rows(self) -> set[int]:
        """The rows that the pass is about."""
        return {*self.tokens, *(branch.row for branch in self.branches)}


@final
@dataclass(frozen=True, slots=True)
class Told:
    """What a pass gave, as bytes: mostly 6 for each token, 4 of its log-probability and 2 of its id."""

    num_rows: int
    gaps: bytes
    """The ids of every row, ascending, each as its distance from the one before."""
    logprobs: bytes
    measured: Mapping[int, bytes]

    @classmethod
    def pack(cls, summary: Summary, measured: Mapping[int, Tensor]) -> Self:
        """A summary, and the natural-log probabilities that were measured."""
        ids, order = summary.ids.sort(dim=-1)
        return cls(
            len(ids),
            _pack_integers(np.diff(ids.numpy(), axis=-1, prepend=0)),
            summary.logprobs.gather(-1, order).numpy().astype("<f4").tobytes(),
            {row: logprobs.numpy().astype("<f4").tobytes() for row, logprobs in measured.items()},
        )

    def unpack(self) -> tuple[Summary, dict[int, Tensor]]:
        """What was packed, the tokens of every row in the order of their ids."""
        logprobs = _read_floats(self.logprobs).reshape(self.num_rows, -1)
        gaps = _unpack_integers(self.gaps, logprobs.numel()).reshape(logprobs.shape)
        ids = torch.from_numpy(gaps.cumsum(axis=-1, dtype=np.int32))
        return Summary(ids, logprobs), {row: _read_floats(found) for row, found in self.measured.items()}


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
    num_told: int | None
    num_parameters: int | None
    cache_bytes_per_token: int | None
    can_fork: bool
    generation_defaults: GenerationDefaults
    identity: dict[str, object]
    source_reader: SourceReader | None


def _pack_integers(numbers: NDArray[np.integer[Any]]) -> bytes:
    """Numbers from 0, in as many bytes each as the greatest one takes."""
    width = max((int(numbers.max()).bit_length() + 7) // 8, 1)
    return numbers.astype("<u4").reshape(-1, 1).view(np.uint8)[:, :width].tobytes()


def _unpack_integers(data: bytes, num: int) -> NDArray[np.unsignedinteger[Any]]:
    numbers = np.zeros((num, 4), np.uint8)
    given = np.frombuffer(data, np.uint8).reshape(num, -1)
    numbers[:, : given.shape[1]] = given
    return numbers.view("<u4")


def _read_floats(data: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(data, "<f4").astype(np.float32))
