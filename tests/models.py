"""Tiny random models of several architectures, built in memory."""

from __future__ import annotations

import torch
import transformers

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 256}


def make_model(
    kind: str = "llama", vocab_size: int = 64, seed: int = 0, **changes: object
) -> transformers.PreTrainedModel:
    """A random model in float32. Weights are wide enough that its choices are far apart."""
    torch.manual_seed(seed)
    wide = {"vocab_size": vocab_size, "initializer_range": 0.4, "bos_token_id": 0, "eos_token_id": 1}
    settings = {**SIZES, "intermediate_size": 64, **wide, **changes}
    if kind == "llama":
        config = transformers.LlamaConfig(num_key_value_heads=2, **settings)
    elif kind == "neox":
        config = transformers.GPTNeoXConfig(**settings)
    elif kind == "qwen2":
        config = transformers.Qwen2Config(num_key_value_heads=2, **settings)
    elif kind == "gpt2":
        config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=256, **{**wide, **changes})
    elif kind == "mistral-sliding":
        config = transformers.MistralConfig(num_key_value_heads=2, sliding_window=8, **settings)
    elif kind == "bloom":
        config = transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **{**wide, **changes})
    elif kind == "mamba":
        config = transformers.MambaConfig(
            hidden_size=32, num_hidden_layers=2, state_size=4, vocab_size=vocab_size, bos_token_id=0, eos_token_id=1
        )
    else:
        raise ValueError(kind)
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.generation_config.pad_token_id = 0
    return model.eval()
