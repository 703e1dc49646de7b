"""A model's pass as a function of tensors and of nothing else, so that it can be recorded and run again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, final

from torch import Tensor
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

from deepen_llm.members.transformers.cache_argument import find_cache_argument

PASSED = ("input_ids", "position_ids", "attention_mask", "logits_to_keep")
"""Arguments of `forward` that are tensors, in the order in which they are handed on."""


@final
class FunctionalModel:
    """A model of which weights, keys and values are arguments."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._cache_argument = find_cache_argument(model)
        self._places = [
            _Place(held, name, tensor)
            for module in model.modules()
            for held in (module._parameters, module._buffers)
            for name, tensor in held.items()
            if tensor is not None
        ]
        self.weights: tuple[Tensor, ...] = tuple({id(at.tensor): at.tensor.detach() for at in self._places}.values())
        """Parameters and buffers, tied ones once."""

    def run(self, names: Sequence[str], tensors: Sequence[Tensor], num_layers: int) -> Tensor:
        """One pass.

        Args:
            names: Those of `PASSED` that are given.
            tensors: Their values; the slots that the new tokens take `(width,)`; every layer's keys, and every layer's
                values, `(rows, heads, slots, head_dim)` each, with room for the new tokens, which are written into
                them; the weights.
            num_layers: How many layers have keys and values.

        Returns:
            Logits (rows, width, num_logits).
        """
        given, (slots, *rest) = tensors[: len(names)], tensors[len(names) :]
        keys, values, weights = rest[:num_layers], rest[num_layers : 2 * num_layers], rest[2 * num_layers :]
        cache = Cache(layers=[_GivenLayer(*layer, slots) for layer in zip(keys, values, strict=True)])
        arguments: dict[str, Any] = {**dict(zip(names, given, strict=True)), self._cache_argument: cache}
        with self._put(weights):
            logits: Tensor = self._model(**arguments, use_cache=True).logits
        return logits

    @contextmanager
    def _put(self, weights: Sequence[Tensor]) -> Iterator[None]:
        """Within, the model has these weights."""
        new = dict(zip(dict.fromkeys(id(at.tensor) for at in self._places), weights, strict=True))
        try:
            for at in self._places:
                at.held[at.name] = new[id(at.tensor)]
            yield
        finally:
            for at in self._places:
                at.held[at.name] = at.tensor


class _Place(NamedTuple):
    """Where a module has a weight."""

    held: dict[str, Any]
    name: str
    tensor: Tensor


@final
class _GivenLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Keys and values that lie in one's caller's memory, a pass's own ones included."""

    is_sliding = False
    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, slots: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values, self._slots = keys, values, slots
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """There is nothing to begin."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write the new tokens into their slots."""
        self.keys.index_copy_(2, self._slots, key_states)
        self.values.index_copy_(2, self._slots, value_states)
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """All slots, from the first."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """Slots before the pass. A number, also while a trace is made: of a tensor a mask would come, for nothing."""
        return int(self.keys.shape[2]) - int(self._slots.shape[0])

    def get_max_length(self) -> int:
        """No end, as transformers says it."""
        return -1
