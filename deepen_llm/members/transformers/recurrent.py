"""Rows of a model with a recurrent state (Mamba, linear attention): a state a row, re-run from a snapshot."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from deepen_llm.members.base import Branch
from deepen_llm.members.transformers.cache_argument import find_cache_argument
from deepen_llm.members.transformers.placement import input_device
from deepen_llm.members.transformers.rows import Extended, Rows, measure

SNAPSHOT_EVERY_TOKENS = 16


@dataclass
class _Row:
    """What one row was fed, its state after `num_seen` of it, and an older state to go back to."""

    cache: DynamicCache
    ids: list[int] = field(default_factory=list)
    num_seen: int = 0
    snapshot: DynamicCache | None = None
    num_in_snapshot: int = 0


@final
class RecurrentRows(Rows):
    """Running rows of one recurrent model. Padding would enter the state, so each row has passes of its own."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._device = input_device(model)
        self._rows: dict[int, _Row] = {}
        self._cache_argument = find_cache_argument(model)

    @property
    def bytes_per_token(self) -> None:
        """None: the state of a row has one size."""
        return

    def extend(
        self, tokens: Mapping[int, Sequence[int]], measured: Mapping[int, int], *, temperature: float = 1.0
    ) -> Extended:
        """See `Rows.extend`."""
        logits = {row: self._extend_row(row, ids) for row, ids in tokens.items()}
        found = {
            row: measure(logits[row][-num - 1 : -1], tokens[row][len(tokens[row]) - num :], temperature)
            for row, num in measured.items()
            if num
        }
        return Extended(torch.stack([rows[-1] for rows in logits.values()]), found)

    def peek(self, branches: Sequence[Branch]) -> Tensor:
        """Logits after other tokens, from copies of the rows' states."""
        logits = []
        for row, num_back, ids in branches:
            kept, self._rows[row] = self._rows[row], copy.deepcopy(self._rows[row])
            try:
                self.rollback(row, num_back)
                logits.append(self._extend_row(row, ids)[-1])
            finally:
                self._rows[row] = kept
        return torch.stack(logits)

    def rollback(self, row: int, num_tokens: int) -> None:
        """Forget the last tokens of a row: back to the snapshot, or to the beginning where that is too young."""
        if not num_tokens:
            return
        state = self._rows[row]
        del state.ids[len(state.ids) - num_tokens :]
        if state.snapshot is not None and state.num_in_snapshot <= len(state.ids):
            state.cache, state.num_seen = copy.deepcopy(state.snapshot), state.num_in_snapshot
        else:
            state.cache, state.num_seen, state.snapshot = self._new_cache(), 0, None

    def fork(self, row: int, new: int, num_back: int) -> int | None:
        """Begin a row with a state of another that is not too young: the last one, or its snapshot."""
        state = self._rows[row]
        num_kept = len(state.ids) - num_back
        cache, num = state.cache, state.num_seen
        if num > num_kept:
            if state.snapshot is None:
                return None
            cache, num = state.snapshot, state.num_in_snapshot
        if not 0 < num <= num_kept:
            return None
        self._rows[new] = _Row(copy.deepcopy(cache), state.ids[:num], num)
        return len(state.ids) - num

    def park(self, row: int) -> int:
        """Nothing is to be done: each row has passes of its own."""
        state = self._rows[row]
        return _count_bytes(state.cache) + (0 if state.snapshot is None else _count_bytes(state.snapshot))

    def release(self, row: int) -> None:
        """Free a row."""
        self._rows.pop(row, None)

    def _extend_row(self, row: int, ids: Sequence[int]) -> Tensor:
        """Feed one row; logits (num, num_logits) after each of its new tokens, at least."""
        state = self._rows.setdefault(row, _Row(self._new_cache()))
        if state.num_seen == len(state.ids) and state.num_seen - state.num_in_snapshot >= SNAPSHOT_EVERY_TOKENS:
            state.snapshot, state.num_in_snapshot = copy.deepcopy(state.cache), state.num_seen
        state.ids.extend(ids)
        fed = state.ids[state.num_seen :]
        # Several tokens at once are a prefill to most recurrent models: they would begin from an empty state.
        logits: list[Tensor] = []
        for part in [[token_id] for token_id in fed] if state.num_seen else [fed]:
            input_ids = torch.tensor([part], device=self._device)
            outputs = self._model(input_ids=input_ids, use_cache=True, **{self._cache_argument: state.cache})
            logits.append(outputs.logits[0])
        state.num_seen = len(state.ids)
        return torch.cat(logits)

    def _new_cache(self) -> DynamicCache:
        return DynamicCache(config=self._model.config)


def _count_bytes(cache: DynamicCache) -> int:
    """Memory of a row's states, those of layers with attention among them."""
    held = [value for layer in cache.layers for value in vars(layer).values()]
    held += [one for value in held if isinstance(value, dict) for one in value.values()]
    held += [one for value in held if isinstance(value, list) for one in value]
    return sum(one.nbytes for one in held if isinstance(one, Tensor))
