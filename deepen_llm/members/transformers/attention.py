"""Rows of a model whose whole memory is its keys and values: all rows run in one batched forward pass."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from deepen_llm.members.transformers.batched import BatchedRows
from deepen_llm.members.transformers.cache import RaggedCache
from deepen_llm.members.transformers.cache_argument import find_cache_argument
from deepen_llm.members.transformers.graphs import DecodeGraphs
from deepen_llm.members.transformers.placement import input_device
from deepen_llm.members.transformers.recorded import RecordedPasses


@final
class AttentionRows(BatchedRows[RaggedCache]):
    """Running rows of one attention model in one ragged cache."""

    def __init__(self, model: PreTrainedModel, sliding_window: int | None = None, *, records: bool = True) -> None:
        """Rows of a model; its short passes are recorded where that can be done, unless `records` is False.

        That is: traced on the CPU (`recorded.py`), captured on a GPU (`graphs.py`).
        """
        super().__init__(RaggedCache())
        self._model = model
        self._device = input_device(model)
        self._sliding_window = sliding_window
        self._cache_argument = find_cache_argument(model)
        self._accepts = frozenset(inspect.signature(model.forward).parameters)
        self._recorded = RecordedPasses.find(model, self._accepts, sliding_window) if records else None
        self._graphs = DecodeGraphs.find(model, self._accepts, sliding_window) if records else None

    @property
    def computes_all(self) -> bool:
        """Where a graph is launched, which is for all rows of the cache."""
        return self._graphs is not None

    @property
    def bytes_per_token(self) -> int:
        """Keys and values of every layer for one token."""
        config = self._model.config.get_text_config()
        num_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * config.num_hidden_layers * num_heads * head_dim * self._model.dtype.itemsize)

    def _begin(self, rows: Sequence[int]) -> RaggedCache:
        del rows  # they all begin with nothing
        return RaggedCache()

    def _run(self, cache: RaggedCache, fed: Sequence[Sequence[int]], kept: Sequence[int]) -> Tensor:
        """See `BatchedRows`."""
        cache.compact_if_wasteful()
        num_new = [len(ids) for ids in fed]
        reach = cache.num_slots + max(num_new)
        if self._sliding_window and reach > self._sliding_window and cache.has_gaps:
            cache.compact()
        mask = cache.mask_with(num_new)
        inputs = self._inputs(cache, fed, mask, kept)

        def call() -> Tensor:
            logits: Tensor = self._model(**inputs, **{self._cache_argument: cache.keys_values}, use_cache=True).logits
            return logits

        # Graphs are of one cache, and not of copies of some of its rows.
        recorded = self._graphs if self._graphs is not None and cache is self._cache else self._recorded
        logits = call() if recorded is None else recorded.run(cache, inputs, call)
        cache.note_appended(num_new, mask)
        return logits if logits.shape[1] == len(kept) else logits[:, list(kept)]

    def _inputs(
        self, cache: RaggedCache, fed: Sequence[Sequence[int]], mask: Tensor | None, kept: Sequence[int]
    ) -> dict[str, Any]:
        """The arguments of `forward` that this model accepts, on its device. Short rows are padded at the right.

        Args:
            cache: The rows' keys and values.
            fed: Their new tokens.
            mask: Which slots are live.
            kept: The places of new tokens after which logits are needed, ascending.
        """
        device, num_new = self._device, [len(ids) for ids in fed]
        width = max(num_new)
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in fed], device=device)
        inputs: dict[str, Any] = {"input_ids": ids}
        if mask is not None:
            inputs["attention_mask"] = mask.to(device=device, dtype=torch.long)
        if "position_ids" in self._accepts:
            begins = cache.lengths or [0] * len(fed)
            inputs["position_ids"] = torch.tensor([range(begin, begin + width) for begin in begins], device=device)
        if self._keeps_some(num_new):
            inputs["logits_to_keep"] = torch.tensor(kept, device=device)
        return inputs

    def _keeps_some(self, num_new: Sequence[int]) -> bool:
        """Whether the model is asked for logits at some positions only."""
        return max(num_new) > 1 and "logits_to_keep" in self._accepts
