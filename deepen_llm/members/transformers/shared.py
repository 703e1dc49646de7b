"""Weights that several members have in common: in memory once, every member with modules of its own over them.

So adapters over one base, a base beside its adapter, or one model under two chat templates take the memory of one
model, and no pass has to switch anything: what an adapter adds goes into the modules of its member alone.
"""

from __future__ import annotations

import copy
import itertools
import json
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, final

from transformers import PreTrainedModel

from deepen_llm.members.transformers.checkpoint import Checkpoint
from deepen_llm.members.transformers.footprint import measure_parts
from deepen_llm.members.transformers.settings import TransformersConfig
from deepen_llm.members.transformers.weights import Weights

SHAPING = ("kind", "dtype", "device", "attn_implementation", "quantization_config", "trust_remote_code")
"""Settings that make another model of the same files, beside `model_kwargs`."""


@final
class SharedWeights:
    """A model as it was loaded. It is not run and not changed: members run copies of its modules."""

    _held: ClassVar[weakref.WeakValueDictionary[str, SharedWeights]] = weakref.WeakValueDictionary()
    """By what they were loaded from and how; gone with the last member that holds them."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._copies: list[weakref.ref[PreTrainedModel]] = []

    @classmethod
    def load(cls, key: str, load: Callable[[], PreTrainedModel]) -> SharedWeights:
        """Those that are in memory already under a key, or else what `load` gives. One thread at a time calls this."""
        found = cls._held.get(key)
        if found is None:
            found = cls._held[key] = cls(load())
        return found

    def copy(self) -> PreTrainedModel:
        """Modules of one's own over the same tensors. They may be replaced, and must not be written into."""
        tensors = itertools.chain(self._model.parameters(), self._model.buffers())
        copied = copy.deepcopy(self._model, {id(tensor): tensor for tensor in tensors})
        self._copies.append(weakref.ref(copied))
        return copied

    def release(self, model: PreTrainedModel) -> None:
        """A copy is used no more: what it had in common with others is counted with one of those."""
        self._copies = [ref for ref in self._copies if ref() is not model]

    def count_shared(self, model: PreTrainedModel) -> int:
        """How many bytes of a copy are counted with another one: none of the first copy that is still in use."""
        first = next((held for ref in self._copies if (held := ref()) is not None), model)
        if first is model:
            return 0
        parts = measure_parts(self._model)
        return sum(parts[key] for key in measure_parts(model).keys() & parts.keys())


def name_weights(base: Checkpoint, config: TransformersConfig, weights: Weights | None, method: str) -> str | None:
    """What tells these weights from others; None where they cannot be shared.

    Files count by their place, size and time: a folder that was written anew is loaded anew. Of quantized weights only
    torchao's are shared: bitsandbytes repacks its own in the first pass, and of other methods it is not known. Nor are
    those that accelerate moves between places.

    Args:
        base: The model's.
        config: The member's.
        weights: The files; None where they are not in safetensors.
        method: How the weights are quantized; empty where they are not.
    """
    if weights is None or config.device_map is not None or method not in ("", "torchao"):
        return None
    files = [(str(path.resolve()), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in weights.paths]
    settings = {name: getattr(config, name) for name in (*SHAPING, "model_kwargs")}
    try:
        return json.dumps([base.place, base.arguments, files, settings], sort_keys=True, default=_describe)
    except (TypeError, ValueError):
        return None


def _describe(value: Any) -> Any:
    """A quantization's settings; whatever else is no JSON value cannot be compared."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    raise TypeError(f"{type(value).__name__} is not compared")
