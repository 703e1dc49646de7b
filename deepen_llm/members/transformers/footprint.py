"""The memory that a model's weights take, also where they are packed several numbers to a byte."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from torch import Tensor, nn


def measure_parts(model: nn.Module) -> dict[int, int]:
    """The bytes of every tensor that parameters and buffers consist of, by the tensor's id: shared ones come once.

    Weights that are on disk between passes count as well.
    """
    tensors = itertools.chain(model.parameters(), model.buffers())
    return {id(part): part.nbytes for tensor in tensors for part in _parts(tensor)}


def _parts(tensor: Tensor) -> Iterator[Tensor]:
    """The plain tensors that one consists of: torchao's hold numbers and scales, those of bitsandbytes a state."""
    inner = tensor.__tensor_flatten__()[0] if hasattr(tensor, "__tensor_flatten__") else ()
    if not inner:
        yield tensor
    for name in inner:
        yield from _parts(getattr(tensor, name))
    state = getattr(tensor, "quant_state", None)
    while state is not None:  # with double quantization, the scales have a state of their own
        yield from (part for part in vars(state).values() if isinstance(part, Tensor))
        state = getattr(state, "state2", None)
