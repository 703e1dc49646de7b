"""The tokens' embeddings, read from their one tensor in a GGUF file."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepen_llm.members.gguf.header import TensorInfo

BLOCK_ROWS = 4096
"""How many rows are turned into float32 at a time."""
FLOAT32 = 0


def read_embeddings(path: Path, tensor: TensorInfo, library: Any) -> Tensor:
    """A matrix (rows, hidden) in float16, by llama.cpp's own reading of the number format.

    Args:
        path: The file.
        tensor: Where the matrix lies in it.
        library: llama.cpp.
    """
    hidden, num_rows = tensor.shape[0], tensor.shape[1]
    traits = library.ggml_get_type_traits(tensor.type)[0]
    row_bytes = hidden // traits.blck_size * traits.type_size
    embeddings = torch.empty(num_rows, hidden, dtype=torch.float16)
    with path.open("rb") as file:
        file.seek(tensor.offset)
        for begin in range(0, num_rows, BLOCK_ROWS):
            rows = embeddings[begin : begin + BLOCK_ROWS]
            data = bytearray(file.read(len(rows) * row_bytes))
            block = torch.empty(rows.shape, dtype=torch.float32)
            if tensor.type == FLOAT32:
                block = torch.frombuffer(data, dtype=torch.float32).view(rows.shape)
            else:
                source = (ctypes.c_char * len(data)).from_buffer(data)
                traits.to_float(ctypes.addressof(source), block.data_ptr(), block.numel())
            rows.copy_(block)
    return embeddings
