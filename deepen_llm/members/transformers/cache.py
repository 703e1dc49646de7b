"""The KV cache of one attention model: a row a sequence, rows of different lengths, any of which can be taken back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, final

import torch
from torch import Tensor
from transformers import Cache

from deepen_llm.members.transformers.slots import SlotLayer

COMPACT_BEYOND_SLOTS = 32
"""Dead slots are tolerated up to this many, or a quarter of the slots, before they are squeezed out."""


@final
class RaggedCache:
    """Keys and values of shape (rows, heads, slots, head_dim) a layer, and a mask that says which slots hold a token.

    New tokens take slots at the end, the same number in every row; a row with fewer tokens leaves its last ones dead.
    A row's live slots are in the order of its tokens, so causal attention over slots is causal over tokens. Slots of
    tokens that were taken back are dead too. Dead slots at the end of all rows are cropped at once; others are
    squeezed out now and then, which leaves them at the left only.

    The keys lie in memory that is taken ahead (`SlotLayer`). Sliding-window layers keep all keys, too, and can be
    rolled back as well; their window then counts slots, which is why `has_gaps` exists.
    """

    keys_values: Cache
    lengths: list[int]
    """Live slots of each row."""
    num_slots: int
    """Slots of every row, dead ones included."""
    _mask: Tensor | None

    def __init__(self) -> None:
        self.clear()

    @property
    def num_rows(self) -> int:
        """Rows in the batch."""
        return len(self.lengths)

    @property
    def mask(self) -> Tensor:
        """Which slots are live: `(rows, slots)` bool, on the CPU whatever device the keys are on."""
        if self._mask is None:  # made when it is needed: a batch without dead slots, the common case, never does
            self._mask = torch.ones((self.num_rows, self.num_slots), dtype=torch.bool)
        return self._mask

    @property
    def nbytes(self) -> int:
        """Memory of keys and values."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self._layers)

    @property
    def has_gaps(self) -> bool:
        """Whether a row has a dead slot to the right of a live one."""
        return self._mask is not None and bool((self.mask[:, 1:] < self.mask[:, :-1]).any())

    def mask_with(self, num_new: Sequence[int]) -> Tensor | None:
        """The 2-D attention mask for a pass that adds `num_new` tokens a row; None where every slot is live."""
        if min(num_new) == max(num_new) and all(length == self.num_slots for length in self.lengths):
            return None
        window = torch.arange(max(num_new)) < torch.tensor(num_new).unsqueeze(1)
        mask = torch.cat([self.mask, window], dim=1) if self.num_rows else window
        return None if bool(mask.all()) else mask

    def note_appended(self, num_new: Sequence[int], mask: Tensor | None) -> None:
        """Record a pass that `mask_with` gave `mask` for."""
        self._mask = mask
        self.num_slots += max(num_new)
        self.lengths = [length + new for length, new in zip(self.lengths or [0] * len(num_new), num_new, strict=True)]

    @property
    def held(self) -> list[Tensor]:
        """Every layer's keys and then every layer's values, (rows, heads, slots, head_dim) each."""
        return [*(layer.keys for layer in self._layers), *(layer.values for layer in self._layers)]

    @property
    def rooms(self) -> list[Tensor]:
        """All memory of every layer's keys and then of every layer's values; see `SlotLayer`."""
        layers = self._layers
        return [*(layer.rooms[0] for layer in layers), *(layer.rooms[1] for layer in layers)]

    def reserve_rows(self, num_rows: int) -> None:
        """Have memory for so many rows."""
        for layer in self._layers:
            layer.reserve(num_rows, layer.num_slots)

    def open_slots(self, width: int) -> list[Tensor]:
        """`held` with so many slots more, which the caller writes."""
        for layer in self._layers:
            layer.open_slots(width)
        return self.held

    def rollback(self, index: int, num_tokens: int) -> None:
        """Take back the last `num_tokens` tokens of the row at `index`."""
        live = self.mask[index].nonzero().flatten()
        self.mask[index, live[len(live) - num_tokens :]] = False
        self.lengths[index] -= num_tokens
        self._crop()

    def copy_rows(self, indices: Sequence[int]) -> RaggedCache:
        """A cache of its own that holds copies of these rows; a row may be named more than once."""
        copied = RaggedCache()
        copied.keys_values.layers = [layer.copy_rows(indices) for layer in self._layers]
        copied._mask = None if self._mask is None else self._mask[list(indices)]
        copied.lengths, copied.num_slots = [self.lengths[index] for index in indices], self.num_slots
        copied._crop()
        return copied

    def append(self, part: RaggedCache, indices: Sequence[int]) -> None:
        """Take over what `part`, a copy of these rows, was fed in one pass; in the other rows its slots are dead."""
        num_new = [length - self.lengths[index] for length, index in zip(part.lengths, indices, strict=True)]
        width = max(num_new)
        for mine, theirs in zip(self._layers, part._layers, strict=True):
            mine.append(theirs, indices, width)
        window = torch.zeros((self.num_rows, width), dtype=torch.bool)
        window[list(indices)] = part.mask[:, -width:]
        self._mask, self.num_slots = torch.cat([self.mask, window], dim=1), self.num_slots + width
        for index, length in zip(indices, part.lengths, strict=True):
            self.lengths[index] = length
        self.compact_if_wasteful()

    def drop(self, index: int) -> None:
        """Remove the row at `index` and free what only it needed."""
        kept = [row for row in range(self.num_rows) if row != index]
        if not kept:
            self.clear()
            return
        for layer in self._layers:
            layer.keep_rows(kept)
        self._mask = self.mask[kept]
        self.lengths = [self.lengths[row] for row in kept]
        self._crop()
        for layer in self._layers:
            layer.shrink()

    def clear(self) -> None:
        """Remove every row."""
        self.keys_values = Cache(layer_class_to_replicate=SlotLayer)
        self._mask = None
        self.lengths, self.num_slots = [], 0

    def merge(self, other: RaggedCache) -> None:
        """Take over the rows of `other`, after one's own. `other` is used up."""
        if not self.num_rows:
            self.keys_values, self.lengths, self.num_slots = other.keys_values, other.lengths, other.num_slots
            self._mask = other._mask
            return
        num_slots = max(self.num_slots, other.num_slots)
        for mine, theirs in zip(self._layers, other._layers, strict=True):
            mine.join(theirs, num_slots)
        masks = [torch.nn.functional.pad(mask, (num_slots - mask.shape[1], 0)) for mask in (self.mask, other.mask)]
        self._mask = torch.cat(masks)
        self.lengths, self.num_slots = self.lengths + other.lengths, num_slots

    def compact_if_wasteful(self) -> None:
        """Squeeze dead slots out when they cost more than copying the rest."""
        dead = self.num_slots - max(self.lengths, default=0)
        if dead > max(COMPACT_BEYOND_SLOTS, self.num_slots // 4):
            self.compact()

    def compact(self) -> None:
        """Move every row's live slots to the right end and drop the slots that no row needs."""
        if all(length == self.num_slots for length in self.lengths):
            return
        num_slots = max(self.lengths)
        order = torch.argsort(self.mask.to(torch.uint8), dim=1, stable=True)[:, self.num_slots - num_slots :]
        for layer in self._layers:
            layer.gather(order)
        self._mask, self.num_slots = self.mask.gather(1, order), num_slots

    def restore(self) -> bool:
        """Take back what a pass or a change that failed halfway, for want of memory, say, left in some layers only.

        Returns:
            Whether every layer holds the rows as they were before; otherwise they are good for nothing.
        """
        due = (self.num_rows, self.num_slots)
        if any(layer.num_rows != due[0] or layer.num_slots < due[1] for layer in self._layers):
            return False
        self._crop_layers()
        return True

    @property
    def _layers(self) -> list[SlotLayer]:
        """The layers that have run."""
        layers = cast(list[SlotLayer], self.keys_values.layers)
        return [layer for layer in layers if layer.is_initialized]

    def _crop(self) -> None:
        """Cut dead slots off the end."""
        live = self.mask.any(dim=0).nonzero()
        num_slots = int(live[-1]) + 1 if len(live) else 0
        if num_slots < self.num_slots:
            self._mask, self.num_slots = self.mask[:, :num_slots].contiguous(), num_slots
            self._crop_layers()

    def _crop_layers(self) -> None:
        for layer in self._layers:
            layer.crop_to(self.num_slots)
