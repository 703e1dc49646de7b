"""Rows of a decoder over sources: all of them run in one batched forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from deepen_llm.members.encoder_decoder.cache import SourcedCache
from deepen_llm.members.encoder_decoder.positions import RowPositions
from deepen_llm.members.transformers.batched import BatchedRows
from deepen_llm.members.transformers.placement import input_device


@final
class SourcedRows(BatchedRows[SourcedCache]):
    """Running rows of one model. An encoder reads each row's source once, when the row begins."""

    def __init__(self, model: PreTrainedModel, positions: RowPositions) -> None:
        super().__init__(SourcedCache())
        self._model, self._positions, self._device = model, positions, input_device(model)
        self._sources: dict[int, tuple[int, ...]] = {}
        self._outputs: Callable[..., Any] = BaseModelOutput
        """What the model's encoder returns: of a mixture of experts it has a type of its own."""

    @property
    def bytes_per_token(self) -> int:
        """Keys and values of every layer of the decoder for one token; a source takes as much for each of its own."""
        config = self._model.config
        num_layers = getattr(config, "num_decoder_layers", None) or config.decoder_layers
        num_heads = getattr(config, "decoder_attention_heads", None) or config.num_attention_heads
        head_dim = getattr(config, "d_kv", None) or config.hidden_size // num_heads
        return int(2 * num_layers * num_heads * head_dim * self._model.dtype.itemsize)

    def open(self, row: int, source_ids: Sequence[int]) -> None:
        """Note what the encoder is to read when the row is first fed."""
        self._sources[row] = tuple(source_ids)

    def release(self, row: int) -> None:
        """Free a row and its source."""
        self._sources.pop(row, None)
        super().release(row)

    def _begin(self, rows: Sequence[int]) -> SourcedCache:
        cache = SourcedCache()
        sources = [self._sources[row] for row in rows]
        mask = cache.source.mask_with([len(ids) for ids in sources])
        inputs: dict[str, Any] = {"input_ids": self._pad(sources)}
        if mask is not None:
            inputs["attention_mask"] = mask.to(self._device, torch.long)
        encoded = self._model.get_encoder()(**inputs)
        cache.states, self._outputs = encoded.last_hidden_state, type(encoded)
        cache.source.note_appended([len(ids) for ids in sources], mask)
        return cache

    def _run(self, cache: SourcedCache, fed: Sequence[Sequence[int]], kept: Sequence[int]) -> Tensor:
        """See `BatchedRows`."""
        answer, num_new, device = cache.answer, [len(ids) for ids in fed], self._device
        answer.compact_if_wasteful()
        mask, source_mask = answer.mask_with(num_new), cache.source.mask_with([0] * len(fed))
        inputs: dict[str, Any] = {"decoder_input_ids": self._pad(fed)}
        if mask is not None:
            inputs["decoder_attention_mask"] = mask.to(device, torch.long)
        if source_mask is not None:
            inputs["attention_mask"] = source_mask.to(device, torch.long)
        states = self._states(cache)
        with self._positions.of_rows(mask, answer.lengths or [0] * len(fed), num_new):
            outputs = self._model(
                encoder_outputs=self._outputs(last_hidden_state=states),
                past_key_values=cache.keys_values,
                use_cache=True,
                **inputs,
            )
        cache.states = None
        answer.note_appended(num_new, mask)
        logits: Tensor = outputs.logits
        return logits if logits.shape[1] == len(kept) else logits[:, list(kept)]

    def _states(self, cache: SourcedCache) -> Tensor:
        """The encoder's states in the first pass; after it only their shape counts, and they take no memory."""
        if cache.states is not None:
            return cache.states
        shape = (cache.source.num_rows, cache.source.num_slots, int(self._model.config.hidden_size))
        return torch.zeros((1, 1, 1), dtype=self._model.dtype, device=self._device).expand(shape)

    def _pad(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Ids (rows, width), short rows padded at the right."""
        width = max(map(len, rows))
        return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=self._device)
