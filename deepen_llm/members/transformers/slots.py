"""Keys and values of one layer, in memory that is taken ahead of the tokens and written in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, final

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

BLOCK_SLOTS = 64
"""Memory is taken for a multiple of so many slots."""
MAX_SPARE = 4
"""Memory for so many times what is held is given back when rows leave."""


@final
class SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Keys and values (rows, heads, slots, head_dim): views of the beginning of a room that is larger.

    A pass writes its tokens behind the slots that are held. Where the room ends a larger one is taken, half as large
    again at least, so that growing costs less than two copies of a token on average; tokens that are taken back leave
    the room as it is.
    """

    is_sliding = False
    is_croppable = True
    keys: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_rows = self.num_slots = 0
        self._rooms: tuple[Tensor, ...] = ()

    @property
    def rooms(self) -> tuple[Tensor, ...]:
        """The memory that was taken for the keys and for the values; what is not held there may be anything."""
        return self._rooms

    @property
    def room_bytes(self) -> int:
        """Memory that was taken."""
        return sum(room.nbytes for room in self._rooms)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take room for a first pass's keys and values."""
        num_rows, _, num_slots, _ = key_states.shape
        self._rooms = tuple(_take_room(states, num_rows, num_slots) for states in (key_states, value_states))
        self.is_initialized = True
        self._show(num_rows, 0)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write a pass's keys and values (rows, heads, width, head_dim) behind the others; all that are held then."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin, width = self.num_slots, key_states.shape[2]
        for room, states in zip(self.open_slots(width), (key_states, value_states), strict=True):
            room[:, :, begin:] = states.detach()
        return self.keys, self.values

    def open_slots(self, width: int) -> tuple[Tensor, Tensor]:
        """Hold so many slots more, which the caller writes: all keys and values, those to be written at their end."""
        self.reserve(self.num_rows, self.num_slots + width)
        self._show(self.num_rows, self.num_slots + width)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many slots a pass sees, and which is the first."""
        return self.num_slots + query_length, 0

    def get_seq_length(self) -> int:
        """Slots that are held."""
        return self.num_slots

    def get_max_length(self) -> int:
        """No end, as transformers says it."""
        return -1

    def crop_to(self, num_slots: int) -> None:
        """Give up the slots behind the first ones."""
        self._show(self.num_rows, num_slots)

    def copy_rows(self, indices: Sequence[int]) -> Self:
        """A layer of its own that holds copies of these rows; a row may be named more than once."""
        copied = type(self)()
        copied._rooms = tuple(_take_room(states, len(indices), self.num_slots + 1) for states in self._held)
        for room, states in zip(copied._rooms, self._held, strict=True):
            rows = torch.tensor(indices, device=states.device)
            torch.index_select(states, 0, rows, out=room[:, :, : self.num_slots])
        copied.is_initialized = True
        copied._show(len(indices), self.num_slots)
        return copied

    def append(self, part: Self, indices: Sequence[int], width: int) -> None:
        """Take over the last slots of `part`, which holds these rows; of the other rows they are empty."""
        begin = self.num_slots
        for states, theirs in zip(self.open_slots(width), part._held, strict=True):
            states[:, :, begin:] = 0
            states[torch.tensor(indices, device=states.device), :, begin:] = theirs[:, :, -width:]

    def keep_rows(self, kept: Sequence[int]) -> None:
        """Give up all rows but these, which are in ascending order."""
        first = next((place for place, row in enumerate(kept) if place != row), len(kept))
        held = self._begin_change()
        for room, states in zip(self._rooms, held, strict=True):
            if first < len(kept):
                rows = torch.tensor(kept[first:], device=states.device)
                room[first : len(kept), :, : states.shape[2]] = states[rows]
        self._show(len(kept), held[0].shape[2])

    def join(self, other: Self, num_slots: int) -> None:
        """Take over the rows of `other`, after one's own, all with their slots at the right end of so many."""
        num_rows, num_pad = self.num_rows + other.num_rows, num_slots - other.num_slots
        self.reserve(num_rows, num_slots, num_pad=num_slots - self.num_slots)
        held = self._begin_change()
        for room, states in zip(self._rooms, (other.keys, other.values), strict=True):
            room[len(held[0]) : num_rows, :, :num_pad] = 0
            room[len(held[0]) : num_rows, :, num_pad:num_slots] = states
        self._show(num_rows, num_slots)

    def gather(self, order: Tensor) -> None:
        """Put the slots `order` (rows, new slots) of every row in the place of all its slots."""
        num_rows, num_slots = order.shape
        for room, states in zip(self._rooms, self._begin_change(), strict=True):
            index = order.to(states.device)[:, None, :, None]
            chosen = states.gather(2, index.expand(-1, states.shape[1], -1, states.shape[3]))
            room[:num_rows, :, :num_slots] = chosen
        self._show(num_rows, num_slots)

    def shrink(self) -> None:
        """Give memory back where most of it is spare."""
        due = self.num_rows * max(self.num_slots, BLOCK_SLOTS)
        if self._rooms and self._rooms[0].shape[0] * self._rooms[0].shape[2] > MAX_SPARE * due:
            self._rooms = tuple(
                _fill(_take_room(states, self.num_rows, self.num_slots), states, 0) for states in self._held
            )
            self._show(self.num_rows, self.num_slots)

    @property
    def _held(self) -> tuple[Tensor, ...]:
        return self.keys, self.values

    def _begin_change(self) -> tuple[Tensor, ...]:
        """What is held. Until it is shown again the layer holds nothing, so that a change that failed is seen."""
        held = self._held
        self.num_rows = self.num_slots = 0
        return held

    def _show(self, num_rows: int, num_slots: int) -> None:
        """Hold the beginning of the room."""
        self.num_rows, self.num_slots = num_rows, num_slots
        self.keys, self.values = (room[:num_rows, :, :num_slots] for room in self._rooms)

    def reserve(self, num_rows: int, num_slots: int, num_pad: int = 0) -> None:
        """Have room for so many rows and slots, the first `num_pad` of them new ones and empty."""
        old_rows, _, old_slots, _ = self._rooms[0].shape
        is_enough = num_rows <= old_rows and num_slots <= old_slots
        if is_enough and not num_pad:
            return
        held = self._held if not is_enough else tuple(states.clone() for states in self._held)
        shape = (held[0].shape[0], held[0].shape[2] + num_pad)
        if not is_enough:
            due = (num_rows, num_slots if num_slots <= old_slots else max(num_slots, old_slots + old_slots // 2))
            rooms = tuple(_take_room(states, *due) for states in held)
        else:
            self._begin_change()
            rooms = self._rooms
        self._rooms = tuple(_fill(room, states, num_pad) for room, states in zip(rooms, held, strict=True))
        self._show(*shape)


def _take_room(states: Tensor, num_rows: int, num_slots: int) -> Tensor:
    """Memory for keys or values like these."""
    _, num_heads, _, head_dim = states.shape
    num_slots = -(-num_slots // BLOCK_SLOTS) * BLOCK_SLOTS
    with torch.inference_mode(False):  # so that it may be written into wherever it is used
        return torch.empty((num_rows, num_heads, num_slots, head_dim), dtype=states.dtype, device=states.device)


def _fill(room: Tensor, states: Tensor, num_pad: int) -> Tensor:
    """A room with these keys or values at its beginning, behind some empty slots. No slot holds what is no number."""
    num_rows, _, num_slots, _ = states.shape
    room[:num_rows, :, :num_pad] = 0
    room[:num_rows, :, num_pad : num_pad + num_slots] = states
    return room
