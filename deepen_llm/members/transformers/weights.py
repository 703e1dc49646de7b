"""What a checkpoint's weights say of their size, and whether the model that `config.json` describes is of that size."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn.modules import module as torch_module
from transformers import AutoModelForCausalLM, PreTrainedConfig

from deepen_llm.errors import MemberError, quote
from deepen_llm.members.transformers.checkpoint import Checkpoint

WEIGHTS = "model{variant}.safetensors"
INDEX = "model.safetensors.index{variant}.json"
SPARE_ELEMENTS = 1 << 26
"""What a model may have beyond its weights: masks and tables of positions."""
SPARE_TENSORS = 256


@final
@dataclass(frozen=True, slots=True)
class Weights:
    """How much the files of a checkpoint hold."""

    num_tensors: int
    num_elements: int
    num_bytes: int
    paths: tuple[Path, ...]


def read_weights(checkpoint: Checkpoint, variant: str | None = None) -> Weights | None:
    """What the headers of the weights say; None where there are none in safetensors.

    Raises:
        MemberError: A file is damaged, cut short or missing.
        OSError: The hub cannot be reached.
    """
    infix = f".{variant}" if variant else ""
    whole = checkpoint.find(WEIGHTS.format(variant=infix))
    paths = _find_shards(checkpoint, INDEX.format(variant=infix)) if whole is None else [whole]
    if not paths:
        return None
    sizes = [size for path in paths for size in _read_header(checkpoint, path)]
    return Weights(len(sizes), sum(sizes), sum(path.stat().st_size for path in paths), tuple(paths))


def check_size(
    checkpoint: Checkpoint,
    config: PreTrainedConfig,
    weights: Weights,
    *,
    is_quantized: bool,
    model_class: Any = AutoModelForCausalLM,
) -> None:
    """Refuse a model much larger than its weights, before memory is taken for it.

    It is built without memory (on torch's "meta" device) and counted while it is built. Exact names and shapes are
    compared when the weights are loaded.

    Args:
        checkpoint: What errors name.
        config: Describes the model.
        weights: Of the checkpoint.
        is_quantized: Whether several of the model's numbers may lie packed in one number of the weights.
        model_class: What makes the model of its configuration.

    Raises:
        MemberError: The model would have more tensors or numbers than the weights can hold.
    """
    held = weights.num_bytes * 8 if is_quantized else weights.num_elements * 2
    limits = _Count(8 * weights.num_tensors + SPARE_TENSORS, held + SPARE_ELEMENTS)
    with limits.watch(), torch.device("meta"):
        model_class.from_config(copy.deepcopy(config), attn_implementation="eager")
    if limits.is_exceeded:
        checkpoint.refuse(
            f"the weights hold {weights.num_tensors:,} tensors of {weights.num_elements:,} numbers in all, and the "
            f"model that config.json describes is much larger ({limits}): give the config.json that belongs to them"
        )


class _TooLargeError(Exception):
    """Ends the building of a model."""


@final
class _Count:
    """Tensors and numbers of a model, counted while this thread builds it, up to a limit."""

    def __init__(self, max_tensors: int, max_elements: int) -> None:
        self._max_tensors, self._max_elements = max_tensors, max_elements
        self._num_tensors = self._num_elements = 0
        self._thread = threading.get_ident()
        self.is_exceeded = False

    def __str__(self) -> str:
        return f"more than {self._num_tensors:,} tensors, or {self._num_elements:,} numbers"

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Count what is registered within; past the limit the block ends at once."""
        hooks = [
            torch_module.register_module_parameter_registration_hook(self._note),
            torch_module.register_module_buffer_registration_hook(self._note),
        ]
        try:
            yield
        except _TooLargeError:
            self.is_exceeded = True
        finally:
            for hook in hooks:
                hook.remove()

    def _note(self, module: Any, name: str, tensor: Tensor | None) -> None:
        del module, name
        if tensor is None or threading.get_ident() != self._thread:
            return
        self._num_tensors += 1
        self._num_elements += tensor.numel()
        if self._num_tensors > self._max_tensors or self._num_elements > self._max_elements:
            raise _TooLargeError


def _find_shards(checkpoint: Checkpoint, index: str) -> list[Path]:
    values = checkpoint.read_json(index)
    if values is None:
        return []
    shards = values.get("weight_map")
    if not shards or not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        checkpoint.refuse(f"{index} must map every tensor to its file (weight_map): fetch the model anew")
    paths = {name: checkpoint.find(name) for name in sorted(set(shards.values()))}
    if lacking := [name for name, path in paths.items() if path is None]:
        checkpoint.refuse(f"{index} names {quote(lacking[0])}, which is not there: fetch the whole model")
    return [path for path in paths.values() if path is not None]


def _read_header(checkpoint: Checkpoint, path: Path) -> list[int]:
    """How many numbers every tensor has. That the file is as long as its header says safetensors sees to."""
    try:
        with safe_open(path, framework="pt") as file:
            return [math.prod(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise MemberError(checkpoint.say(f"{path.name} is damaged or cut short ({error}): fetch it anew")) from error
