"""The rows of one model in llama.cpp's cache: a sequence each, and some sequences for what is only looked at."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from deepen_llm.errors import MemberError
from deepen_llm.members.base import Branch
from deepen_llm.members.gguf.batch import Decoder, Fed
from deepen_llm.members.gguf.model import NUM_SCRATCH, LlamaContext
from deepen_llm.members.transformers.rows import Extended, Rows, measure

TO_THE_END = -1


@final
@dataclass(slots=True)
class _Row:
    """One row: which of llama.cpp's sequences it is, and its tokens."""

    sequence: int
    ids: list[int] = field(default_factory=list)
    num_cached: int = 0
    """How many of them the cache holds. The others wait: a state that cannot be rolled back is made anew."""


@final
@dataclass(frozen=True, slots=True)
class _Parked:
    """A row outside llama.cpp's cache, where it would take room from those that run and slow them down."""

    ids: list[int]
    state: ctypes.Array[ctypes.c_uint8]


@final
class LlamaRows(Rows):
    """Runs all rows, or all branches, in as few calls as llama.cpp takes.

    The cache is unified: a copy of a sequence marks the cells as its own, too, and copies nothing.
    """

    def __init__(
        self,
        context: LlamaContext,
        *,
        num_rows: int,
        num_logits: int,
        bytes_per_token: int | None,
        on_computing: Callable[[], None],
    ) -> None:
        """Take a context whose cache is empty and has `num_rows + NUM_SCRATCH` sequences; see `Decoder`."""
        self._context, self._num_logits = context, num_logits
        self._decoder = Decoder(context, num_logits, on_computing)
        self._bytes_per_token = bytes_per_token
        self._rows: dict[int, _Row] = {}
        self._parked: dict[int, _Parked] = {}
        self._num_rows = num_rows
        self._free = list(range(num_rows))[::-1]
        self._scratch = range(num_rows, num_rows + NUM_SCRATCH)

    @property
    def bytes_per_token(self) -> int | None:
        """Keys and values of all layers; None for a recurrent model."""
        return self._bytes_per_token

    @property
    def num_tokens(self) -> int:
        """How many tokens all rows hold."""
        return sum(len(row.ids) for row in self._rows.values())

    def extend(
        self, tokens: Mapping[int, Sequence[int]], measured: Mapping[int, int], *, temperature: float = 1.0
    ) -> Extended:
        """Feed the rows their tokens; see `Rows.extend`."""
        fed = self._append(tokens, {handle: measured.get(handle, 0) + 1 for handle in tokens})
        extended = self._decode(fed, temperature)
        self._note_cached(tokens)
        handles = list(tokens)
        return Extended(extended.logits, {handles[place]: found for place, found in extended.measured.items()})

    def extend_each(self, tokens: Mapping[int, Sequence[int]], num_told: Mapping[int, int]) -> Tensor:
        """See `Rows.extend_each`."""
        told = [one.logits.clone() for one in self._decoder.decode(self._append(tokens, num_told))]
        self._note_cached(tokens)
        return torch.cat(told)

    def peek(self, branches: Sequence[Branch]) -> Tensor:
        """Logits after other tokens, each branch in a sequence of its own that is dropped at once."""
        portions = [branches[begin : begin + NUM_SCRATCH] for begin in range(0, len(branches), NUM_SCRATCH)]
        return torch.cat([self._peek(portion) for portion in portions])

    def rollback(self, row: int, num_tokens: int) -> None:
        """Forget the last tokens of a row."""
        if not num_tokens:
            return
        state = self._rows[row]
        del state.ids[len(state.ids) - num_tokens :]
        state.num_cached = self._cut(state.sequence, len(state.ids), state.num_cached)

    def fork(self, row: int, new: int, num_back: int) -> int | None:
        """Begin a row in the cells of another, or read one that was parked into cells of its own."""
        if not self._free:
            return None
        source = self._parked.get(row) or self._rows[row]
        num_kept = len(source.ids) - num_back
        sequence = self._free[-1]
        num_cached = self._cut(sequence, num_kept, self._bring(source, sequence))
        if not num_cached:
            return None
        self._rows[new] = _Row(self._free.pop(), source.ids[:num_cached], num_cached)
        return len(source.ids) - num_cached

    def park(self, row: int) -> int:
        """Save a row outside the cache."""
        state = self._rows[row]
        library, context = self._context.library, self._context.pointer
        size = library.llama_state_seq_get_size(context, state.sequence)
        saved = (ctypes.c_uint8 * size)()
        if library.llama_state_seq_get_data(context, saved, size, state.sequence) != size:
            raise MemberError(f"llama.cpp does not hand out the {size:,} bytes of a row of {len(state.ids):,} tokens")
        self.release(row)
        self._parked[row] = _Parked(state.ids[: state.num_cached], saved)
        return int(size)

    def release(self, row: int) -> None:
        """Free a row."""
        self._parked.pop(row, None)
        state = self._rows.pop(row, None)
        if state is not None:
            self._clear([state.sequence])
            self._free.append(state.sequence)

    def _append(self, tokens: Mapping[int, Sequence[int]], num_told: Mapping[int, int]) -> list[Fed]:
        """New tokens of rows, and what of them the cache lacks."""
        fed = []
        for handle, ids in tokens.items():
            row = self._row(handle)
            row.ids.extend(ids)
            fed.append(Fed(row.sequence, row.num_cached, row.ids[row.num_cached :], num_told[handle]))
        return fed

    def _note_cached(self, handles: Iterable[int]) -> None:
        for handle in handles:
            self._rows[handle].num_cached = len(self._rows[handle].ids)

    def _row(self, handle: int) -> _Row:
        """A row, which begins when it is first fed."""
        if handle not in self._rows:
            if not self._free:
                raise MemberError(
                    f"at most {self._num_rows} answers run at the same time: raise MemberConfig(rows=...), or lower "
                    "EnsembleConfig(max_batch_size=...)"
                )
            self._rows[handle] = _Row(self._free.pop())
        return self._rows[handle]

    def _peek(self, branches: Sequence[Branch]) -> Tensor:
        used = self._scratch[: len(branches)]
        try:
            fed = [self._fork(branch, sequence) for branch, sequence in zip(branches, used, strict=True)]
            return self._decode(fed).logits
        finally:
            self._clear(used)

    def _fork(self, branch: Branch, sequence: int) -> Fed:
        """A branch's tokens, behind what it has in common with its row."""
        row = self._rows[branch.row]
        num_kept = len(row.ids) - branch.num_back
        begin = self._cut(sequence, num_kept, self._bring(row, sequence))
        return Fed(sequence, begin, [*row.ids[begin:num_kept], *branch.ids], 1)

    def _bring(self, source: _Row | _Parked, sequence: int) -> int:
        """Have an empty sequence hold what a row does; how many tokens it then has, none where there is no room."""
        library = self._context.library
        if isinstance(source, _Row):
            library.llama_memory_seq_cp(self._context.memory, source.sequence, sequence, -1, TO_THE_END)
            return source.num_cached
        state = source.state
        if library.llama_state_seq_set_data(self._context.pointer, state, len(state), sequence) == len(state):
            return len(source.ids)
        self._clear([sequence])
        return 0

    def _cut(self, sequence: int, num_kept: int, num_cached: int) -> int:
        """Drop all tokens of a sequence but the first ones. Returns how many of those it still has."""
        if num_kept >= num_cached:
            return num_cached
        library, memory = self._context.library, self._context.memory
        if library.llama_memory_seq_rm(memory, sequence, num_kept, TO_THE_END):
            return num_kept
        self._clear([sequence])  # a recurrent state, which goes forwards only
        return 0

    def _clear(self, sequences: Iterable[int]) -> None:
        for sequence in sequences:
            self._context.library.llama_memory_seq_rm(self._context.memory, sequence, -1, TO_THE_END)

    def _decode(self, fed: Sequence[Fed], temperature: float = 1.0) -> Extended:
        """The logits after the last token of each, and how probable the last ones were that are told."""
        logits = torch.empty(len(fed), self._num_logits)
        ends = [len(one.ids) - 1 for one in fed]
        measured: dict[int, list[Tensor]] = {}
        for told in self._decoder.decode(fed):
            last = [row for row, (place, at) in enumerate(told.places) if at == ends[place]]
            logits[[told.places[row][0] for row in last]] = told.logits[last]
            before = [row for row, (place, at) in enumerate(told.places) if at < ends[place]]
            places = [told.places[row] for row in before]
            following = [fed[place].ids[at + 1] for place, at in places]
            logprobs = measure(told.logits[before], following, temperature) if before else ()
            for (place, _), logprob in zip(places, logprobs, strict=True):
                measured.setdefault(place, []).append(logprob)
        return Extended(logits, {place: torch.stack(found) for place, found in measured.items()})
