"""A model's input embeddings as numbers, whatever they are stored as."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from deepen_llm.members.transformers.placement import input_device


@torch.inference_mode()
def read_embeddings(model: PreTrainedModel) -> Tensor:
    """The input embeddings `(rows, hidden)`, floating: the model's own weights where they are stored as such.

    Quantized ones, ones that an adapter changes, and ones that are on disk between passes are what the model's own
    embedding makes of every token.
    """
    embedding: Any = model.get_input_embeddings()
    weight = embedding.weight
    is_plain = isinstance(embedding, nn.Embedding) and type(weight) in (Tensor, nn.Parameter)
    if is_plain and weight.is_floating_point() and not weight.is_meta:
        found: Tensor = weight.detach()
        return found
    num_rows = getattr(embedding, "num_embeddings", None) or len(weight)
    device = input_device(model)
    made: Tensor = embedding(torch.arange(num_rows, device=device))
    return made
