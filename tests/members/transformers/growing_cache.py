"""A ragged cache in its plainest form, to compare with: every change makes new tensors of all that is held."""

from __future__ import annotations

import torch
from transformers import DynamicCache

from deepen_llm.members.transformers.cache import COMPACT_BEYOND_SLOTS


class GrowingCache:
    """The same slots as `RaggedCache` has, in tensors that grow by concatenation."""

    def __init__(self):
        self.clear()

    @property
    def num_rows(self):
        return len(self.lengths)

    @property
    def num_slots(self):
        return self.mask.shape[1]

    @property
    def has_gaps(self):
        return bool((self.mask[:, 1:] < self.mask[:, :-1]).any())

    def mask_with(self, num_new):
        window = torch.arange(max(num_new)) < torch.tensor(num_new).unsqueeze(1)
        mask = torch.cat([self.mask, window], dim=1) if self.lengths else window
        return None if bool(mask.all()) else mask

    def note_appended(self, num_new, mask):
        due = self.num_slots + max(num_new)
        self.mask = torch.ones((len(num_new), due), dtype=torch.bool) if mask is None else mask
        self.lengths = self.mask.sum(dim=1).tolist()

    def rollback(self, index, num_tokens):
        live = self.mask[index].nonzero().flatten()
        self.mask = self.mask.clone()
        self.mask[index, live[len(live) - num_tokens :]] = False
        self._note_change()

    def copy_rows(self, indices):
        copied = GrowingCache()
        for number, layer in enumerate(self.keys_values.layers):
            copied.keys_values.update(layer.keys[list(indices)], layer.values[list(indices)], number)
        copied.mask = self.mask[list(indices)]
        copied._note_change()
        return copied

    def append(self, part, indices):
        width = max(length - self.lengths[index] for length, index in zip(part.lengths, indices, strict=True))

        def extend(states, theirs):
            new = torch.zeros((*states.shape[:2], width, states.shape[3]))
            new[list(indices)] = theirs[:, :, -width:]
            return torch.cat([states, new], dim=2)

        for mine, theirs in zip(self.keys_values.layers, part.keys_values.layers, strict=True):
            mine.keys, mine.values = extend(mine.keys, theirs.keys), extend(mine.values, theirs.values)
        window = torch.zeros((self.num_rows, width), dtype=torch.bool)
        window[list(indices)] = part.mask[:, -width:]
        self.mask = torch.cat([self.mask, window], dim=1)
        self.lengths = self.mask.sum(dim=1).tolist()
        self.compact_if_wasteful()

    def drop(self, index):
        kept = [row for row in range(self.num_rows) if row != index]
        if not kept:
            self.clear()
            return
        self._change(lambda states: states[kept])
        self.mask = self.mask[kept]
        self._note_change()

    def clear(self):
        self.keys_values = DynamicCache()
        self.lengths, self.mask = [], torch.ones((0, 0), dtype=torch.bool)

    def merge(self, other):
        if not self.lengths:
            self.keys_values, self.lengths, self.mask = other.keys_values, other.lengths, other.mask
            return
        num_slots = max(self.num_slots, other.num_slots)

        def pad(states, before):
            return torch.nn.functional.pad(states, (0, 0, num_slots - before, 0))

        for mine, theirs in zip(self.keys_values.layers, other.keys_values.layers, strict=True):
            mine.keys = torch.cat([pad(mine.keys, self.num_slots), pad(theirs.keys, other.num_slots)])
            mine.values = torch.cat([pad(mine.values, self.num_slots), pad(theirs.values, other.num_slots)])
        masks = [torch.nn.functional.pad(mask, (num_slots - mask.shape[1], 0)) for mask in (self.mask, other.mask)]
        self.mask = torch.cat(masks)
        self.lengths = self.lengths + other.lengths

    def compact_if_wasteful(self):
        if self.num_slots - max(self.lengths, default=0) > max(COMPACT_BEYOND_SLOTS, self.num_slots // 4):
            self.compact()

    def compact(self):
        num_slots = max(self.lengths)
        order = torch.argsort(self.mask.to(torch.uint8), dim=1, stable=True)[:, self.num_slots - num_slots :]

        def gather(states):
            return states.gather(2, order[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3]))

        self._change(gather)
        self.mask = self.mask.gather(1, order)

    def restore(self):
        return False

    def _note_change(self):
        """Cut dead slots off the end."""
        live = self.mask.any(dim=0).nonzero()
        num_slots = int(live[-1]) + 1 if len(live) else 0
        self._change(lambda states: states[:, :, :num_slots])
        self.mask = self.mask[:, :num_slots]
        self.lengths = self.mask.sum(dim=1).tolist()

    def _change(self, change):
        for layer in self.keys_values.layers:
            layer.keys, layer.values = change(layer.keys), change(layer.values)
