"""Tiny random models written as GGUF files, weights and tokenizer as transformers has them in memory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import transformers

from tests import toy_tokenizers
from tests.models import make_model

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
NUM_PADDED = 3
LLAMA_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_llama(path: Path, tokenizer=None, *, seed: int = 0, architecture: str = "llama", **settings) -> Path:
    """A random Llama; `settings` are further settings of the file, in place of those that belong to it."""
    tokenizer = tokenizer or toy_tokenizers.byte_level_bpe()
    model = make_llama(tokenizer, seed)
    config = model.config
    writer = make_writer(path, architecture)
    numbers = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
    }
    for name, value in numbers.items():
        writer.add_uint32(f"{architecture}.{name}", settings.pop(name.replace(".", "_"), value))
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", config.rms_norm_eps)
    writer.add_float32(f"{architecture}.rope.freq_base", config.rope_parameters["rope_theta"])
    for name, value in settings.items():
        writer.add_key_value(name.replace("__", "."), value, kind_of(value))
    add_tokenizer(writer, tokenizer)
    for name, tensor in model.state_dict().items():
        data = tensor.numpy()
        if "q_proj" in name:
            data = interleave(data, config.num_attention_heads)
        if "k_proj" in name:
            data = interleave(data, config.num_key_value_heads)
        writer.add_tensor(llama_name(name), np.ascontiguousarray(data))
    return finish(writer, path)


def make_llama(tokenizer, seed: int = 0) -> transformers.PreTrainedModel:
    """The model that `write_llama` writes."""
    return make_model("llama", vocab_size=len(tokenizer) + NUM_PADDED, seed=seed, eos_token_id=tokenizer.eos_token_id)


def write_mamba(path: Path, tokenizer=None, *, seed: int = 0) -> Path:
    """A random Mamba, whose state goes forwards only."""
    tokenizer = tokenizer or toy_tokenizers.byte_level_bpe()
    size, inner, state, rank = 32, 64, 4, 2
    writer = make_writer(path, "mamba")
    numbers = {
        "context_length": 256,
        "embedding_length": size,
        "feed_forward_length": 0,
        "block_count": 2,
        "attention.head_count": 0,
        "ssm.conv_kernel": 4,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": rank,
    }
    for name, value in numbers.items():
        writer.add_uint32(f"mamba.{name}", value)
    writer.add_float32("mamba.attention.layer_norm_rms_epsilon", 1e-5)
    add_tokenizer(writer, tokenizer)
    random = np.random.default_rng(seed)
    shapes = {
        "attn_norm.weight": (size,),
        "ssm_in.weight": (2 * inner, size),
        "ssm_conv1d.weight": (inner, 4),
        "ssm_conv1d.bias": (inner,),
        "ssm_x.weight": (rank + 2 * state, inner),
        "ssm_dt.weight": (inner, rank),
        "ssm_dt.bias": (inner,),
        "ssm_a": (inner, state),
        "ssm_d": (inner,),
        "ssm_out.weight": (size, inner),
    }
    tensors = {"token_embd.weight": (len(tokenizer) + NUM_PADDED, size), "output_norm.weight": (size,)}
    tensors |= {f"blk.{layer}.{name}": shape for layer in range(2) for name, shape in shapes.items()}
    for name, shape in tensors.items():
        data = random.normal(0, 0.4, shape).astype(np.float32)
        if name.endswith("ssm_a"):
            data = -np.exp(data)
        writer.add_tensor(name, np.ones(shape, np.float32) if "norm" in name else data)
    return finish(writer, path)


def make_writer(path: Path, architecture: str):
    import gguf

    return gguf.GGUFWriter(str(path), architecture)


def finish(writer, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def kind_of(value):
    import gguf

    return gguf.GGUFValueType.get_type(value)


def add_tokenizer(writer, tokenizer) -> None:
    """The tokenizer of the tokenizers library as a GGUF file has it."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    is_byte_level = "<0x00>" not in model["vocab"] and "▁" not in model["vocab"]
    pieces = {token_id: piece for piece, token_id in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    size = len(tokenizer) + NUM_PADDED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    ranks = {merge.replace(" ", ""): rank for rank, merge in reversed(list(enumerate(merges)))}
    kinds = [_kind(pieces.get(i), added.get(i), tokenizer.unk_token_id == i and not is_byte_level) for i in range(size)]
    tokens = [pieces.get(token_id, f"[PAD{token_id}]") for token_id in range(size)]
    writer.add_tokenizer_model("gpt2" if is_byte_level else "llama")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if is_byte_level:
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_merges(merges)
    else:
        writer.add_token_scores([-float(ranks.get(token, len(ranks))) for token in tokens])
        writer.add_unk_token_id(tokenizer.unk_token_id)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(tokenizer("a").input_ids[0] == tokenizer.bos_token_id)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _kind(piece, added, is_unknown: bool) -> int:
    if piece is None:
        return UNUSED
    if is_unknown:
        return UNKNOWN
    if added is not None:
        return CONTROL if added.special else USER_DEFINED
    return BYTE if len(piece) == 6 and piece.startswith("<0x") else NORMAL


def interleave(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """Rows in the order in which llama.cpp turns pairs of neighbours; transformers turns halves."""
    halves = weight.reshape(num_heads, 2, weight.shape[0] // num_heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def llama_name(name: str) -> str:
    """A tensor's name in a GGUF file."""
    stem = name.removesuffix(".weight")
    if not stem.startswith("model.layers."):
        return LLAMA_NAMES[stem] + ".weight"
    layer, _, part = stem.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{LLAMA_NAMES[part]}.weight"
