"""Tokens of several sequences on their way through llama.cpp, and the logits that come of them."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from deepen_llm.errors import MemberError
from deepen_llm.members.gguf.declarations import Batch
from deepen_llm.members.gguf.model import BATCH_TOKENS, LlamaContext

MAX_OUTPUTS = 128
"""The most tokens of one call after which logits are told: each takes four bytes a token of the vocabulary."""
CACHE_FULL = 1


class Fed(NamedTuple):
    """Tokens for the end of a sequence."""

    sequence: int
    begin: int
    """The position of the first of them."""
    ids: Sequence[int]
    num_told: int
    """After how many of the last of them logits are told, at least one."""


class Told(NamedTuple):
    """Logits after some tokens."""

    places: list[tuple[int, int]]
    """For every row of the logits, the place of what was fed, and of the token among its ids."""
    logits: Tensor
    """(len(places), num_logits), float32: llama.cpp's own memory, good until the next call."""


class _Token(NamedTuple):
    token_id: int
    position: int
    sequence: int
    place: tuple[int, int]
    is_told: bool


@final
class Decoder:
    """Hands tokens to a context, as many at a time as it takes."""

    def __init__(self, context: LlamaContext, num_logits: int, on_computing: Callable[[], None]) -> None:
        """Make room for them; `on_computing` is called each time before llama.cpp is."""
        self._context, self._num_logits, self._on_computing = context, num_logits, on_computing
        self._token = (ctypes.c_int32 * BATCH_TOKENS)()
        self._position = (ctypes.c_int32 * BATCH_TOKENS)()
        self._sequence = (ctypes.c_int32 * BATCH_TOKENS)()
        self._num_sequences = (ctypes.c_int32 * BATCH_TOKENS)(*[1] * BATCH_TOKENS)
        self._is_told = (ctypes.c_int8 * BATCH_TOKENS)()
        pointer = ctypes.POINTER(ctypes.c_int32)
        begin, size = ctypes.addressof(self._sequence), ctypes.sizeof(ctypes.c_int32)
        places = [ctypes.cast(begin + size * place, pointer) for place in range(BATCH_TOKENS)]
        self._sequences = (pointer * BATCH_TOKENS)(*places)

    def decode(self, fed: Sequence[Fed]) -> Iterator[Told]:
        """The logits, in the order of what was fed; each is to be used before the next is asked for.

        Raises:
            MemberError: The cache is full, or llama.cpp fails.
        """
        portion: list[_Token] = []
        num_told = 0
        for token in _list_tokens(fed):
            if len(portion) == BATCH_TOKENS or (token.is_told and num_told == MAX_OUTPUTS):
                yield self._run(portion)
                portion, num_told = [], 0
            portion.append(token)
            num_told += token.is_told
        yield self._run(portion)

    def _run(self, portion: list[_Token]) -> Told:
        num = len(portion)
        self._token[:num] = [token.token_id for token in portion]
        self._position[:num] = [token.position for token in portion]
        self._sequence[:num] = [token.sequence for token in portion]
        self._is_told[:num] = [token.is_told for token in portion]
        batch = Batch(num, self._token, None, self._position, self._num_sequences, self._sequences, self._is_told)
        library, context = self._context.library, self._context.pointer
        self._on_computing()
        result = library.llama_decode(context, batch)
        if result == CACHE_FULL:
            raise MemberError(
                f"the cache holds {library.llama_n_ctx(context):,} tokens of all answers together, and has no room for "
                f"{num:,} more: raise MemberConfig(cache_tokens=...), or run fewer answers at the same time"
            )
        if result != 0:
            raise MemberError(f"llama.cpp failed with {result}")
        places = [token.place for token in portion if token.is_told]
        return Told(places, self._read_logits(len(places)))

    def _read_logits(self, num_rows: int) -> Tensor:
        """Rows lie one behind another, in the order of the batch."""
        if not num_rows:
            return torch.empty(0, self._num_logits)
        address = self._context.library.llama_get_logits(self._context.pointer)
        memory = (ctypes.c_float * (num_rows * self._num_logits)).from_address(address)
        return torch.frombuffer(memory, dtype=torch.float32).view(num_rows, self._num_logits)


def _list_tokens(fed: Sequence[Fed]) -> Iterator[_Token]:
    for place, (sequence, begin, ids, num_told) in enumerate(fed):
        first_told = len(ids) - num_told
        for index, token_id in enumerate(ids):
            yield _Token(token_id, begin + index, sequence, (place, index), index >= first_told)
