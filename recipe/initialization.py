"""Attention that begins as matching and copying, so that reading is learnt in minutes.

After Trockman and Kolter, "Mimetic Initialization of Self-Attention Layers" (2023): in each head the
query and key matrices begin nearly equal, so a token attends to what is like it; value and output
matrices begin as each other's transpose, so what is attended to is copied, whatever token it is.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

MATCHING = 0.5
COPYING = 0.55
NOISE = 0.04
NUM_LOOK_BACK = 2
CONSTANT = 0.6
EMBEDDING_SCALE = 0.15
NUM_FREQUENCIES = 4


def _rotation(size: int, generator: torch.Generator) -> torch.Tensor:
    """A random orthogonal matrix, `(size, size)`."""
    gaussian = torch.randn(size, size, generator=generator)
    rotation: torch.Tensor = torch.linalg.qr(gaussian).Q
    return rotation


def attention_weights(layer: nn.Module, num_heads: int) -> tuple[torch.Tensor, ...]:
    """The query, key, value and output weights of a layer, views that can be written to.

    Queries, keys and values are `(heads, head size, hidden)`, outputs `(hidden, hidden)`.
    """
    attention = layer.get_submodule("attention" if hasattr(layer, "attention") else "self_attn")
    if hasattr(attention, "query_key_value"):
        fused = attention.get_parameter("query_key_value.weight").data
        split = fused.view(num_heads, 3, -1, fused.shape[1])
        return split[:, 0], split[:, 1], split[:, 2], attention.get_parameter("dense.weight").data
    weights = [attention.get_parameter(f"{name}_proj.weight").data for name in "qkvo"]
    return (*(weight.view(num_heads, -1, weight.shape[1]) for weight in weights[:3]), weights[3])


def embedding_of(model: PreTrainedModel) -> torch.nn.Parameter:
    """The input embeddings, `(vocab, hidden)`."""
    return model.get_input_embeddings().get_parameter("weight")


def look_back(model: PreTrainedModel, query: torch.Tensor, key: torch.Tensor) -> None:
    """Makes heads of the first layer attend to the token before, whatever it is, in place.

    The first channel of every embedding becomes a constant; the rotary position embedding turns
    equal queries and keys by their distance, so keys turned one step ahead match best one step back.
    """
    embedding_of(model)[:, 0] = CONSTANT
    frequencies: torch.Tensor = model.base_model.get_submodule("rotary_emb").get_buffer("inv_freq")
    half = len(frequencies)
    for head in range(NUM_LOOK_BACK):
        for i in range(NUM_FREQUENCIES):
            query[head, i, 0] = 1.0
            key[head, i, 0] = torch.cos(frequencies[i])
            key[head, i + half, 0] = torch.sin(frequencies[i])


@torch.no_grad()
def apply_mimetic(model: PreTrainedModel, seed: int) -> None:
    """Overwrites the attention weights in place; some heads of the first layer look one token back."""
    generator = torch.Generator().manual_seed(seed)
    num_heads = model.config.num_attention_heads
    embedding = embedding_of(model)
    embedding.copy_(EMBEDDING_SCALE * torch.randn(embedding.shape, generator=generator))
    for number, layer in enumerate(model.base_model.get_submodule("layers").children()):
        query, key, value, output = attention_weights(layer, num_heads)
        matched = _rotation(output.shape[0], generator)
        copied = _rotation(output.shape[0], generator)
        targets = [(value, COPYING * copied), (output, COPYING * copied.T)]
        if number > 0:
            targets += [(query, MATCHING * matched), (key, MATCHING * matched)]
        for weight, target in targets:
            noise = NOISE * torch.randn(target.shape, generator=generator)
            weight.copy_((target + noise).reshape(weight.shape))
        if number == 0:
            look_back(model, query, key)
