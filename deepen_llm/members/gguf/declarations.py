"""What of llama.cpp's C interface (`llama.h`, `ggml.h`) is called, declared as ctypes wants it."""

from __future__ import annotations

from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char,
    c_char_p,
    c_float,
    c_int,
    c_int8,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any

LogCallback = CFUNCTYPE(None, c_int, c_char_p, c_void_p)
ToFloat = CFUNCTYPE(None, c_void_p, c_void_p, c_int64)


class ModelParams(Structure):
    """`llama_model_params`."""

    _fields_ = [
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int),
        ("load_mode", c_int),
        ("lazy_mode", c_int),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("load_mtp", c_bool),
    ]


class ContextParams(Structure):
    """`llama_context_params`."""

    _fields_ = [
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("n_rs_seq", c_uint32),
        ("n_outputs_max", c_uint32),
        ("n_outputs_max_per_seq", c_uint32),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("ctx_type", c_int),
        ("rope_scaling_type", c_int),
        ("pooling_type", c_int),
        ("attention_type", c_int),
        ("flash_attn_type", c_int),
        ("rope_freq_base", c_float),
        ("rope_freq_scale", c_float),
        ("yarn_ext_factor", c_float),
        ("yarn_attn_factor", c_float),
        ("yarn_beta_fast", c_float),
        ("yarn_beta_slow", c_float),
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int),
        ("type_v", c_int),
        ("moe_cache_size", c_size_t),
        ("abort_callback", c_void_p),
        ("abort_callback_data", c_void_p),
        ("embeddings", c_bool),
        ("offload_kqv", c_bool),
        ("no_perf", c_bool),
        ("op_offload", c_bool),
        ("swa_full", c_bool),
        ("kv_unified", c_bool),
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
    ]


class Batch(Structure):
    """`llama_batch`."""

    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", c_void_p),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    ]


class KVOverride(Structure):
    """`llama_model_kv_override`, of which only truth values are written."""

    _fields_ = [("tag", c_int), ("key", c_char * 128), ("value", c_uint64 * 16)]


class TypeTraits(Structure):
    """`ggml_type_traits`."""

    _fields_ = [
        ("type_name", c_char_p),
        ("blck_size", c_int64),
        ("blck_size_interleave", c_int64),
        ("type_size", c_size_t),
        ("is_quantized", c_bool),
        ("to_float", ToFloat),
        ("from_float_ref", c_void_p),
    ]


_MODEL = _CONTEXT = _VOCAB = _MEMORY = c_void_p

FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "llama_log_set": (None, [LogCallback, c_void_p]),
    "llama_backend_init": (None, []),
    "llama_supports_gpu_offload": (c_bool, []),
    "llama_model_default_params": (ModelParams, []),
    "llama_context_default_params": (ContextParams, []),
    "llama_model_load_from_file": (_MODEL, [c_char_p, ModelParams]),
    "llama_model_free": (None, [_MODEL]),
    "llama_model_get_vocab": (_VOCAB, [_MODEL]),
    "llama_model_chat_template": (c_char_p, [_MODEL, c_char_p]),
    "llama_model_n_ctx_train": (c_int32, [_MODEL]),
    "llama_model_n_params": (c_uint64, [_MODEL]),
    "llama_model_size": (c_uint64, [_MODEL]),
    "llama_model_has_encoder": (c_bool, [_MODEL]),
    "llama_model_has_decoder": (c_bool, [_MODEL]),
    "llama_model_is_recurrent": (c_bool, [_MODEL]),
    "llama_model_is_diffusion": (c_bool, [_MODEL]),
    "llama_init_from_model": (_CONTEXT, [_MODEL, ContextParams]),
    "llama_free": (None, [_CONTEXT]),
    "llama_n_ctx": (c_uint32, [_CONTEXT]),
    "llama_get_memory": (_MEMORY, [_CONTEXT]),
    "llama_memory_seq_rm": (c_bool, [_MEMORY, c_int32, c_int32, c_int32]),
    "llama_memory_seq_cp": (None, [_MEMORY, c_int32, c_int32, c_int32, c_int32]),
    "llama_memory_seq_pos_max": (c_int32, [_MEMORY, c_int32]),
    "llama_state_seq_get_size": (c_size_t, [_CONTEXT, c_int32]),
    "llama_state_seq_get_data": (c_size_t, [_CONTEXT, c_void_p, c_size_t, c_int32]),
    "llama_state_seq_set_data": (c_size_t, [_CONTEXT, c_void_p, c_size_t, c_int32]),
    "llama_decode": (c_int32, [_CONTEXT, Batch]),
    "llama_get_logits": (c_void_p, [_CONTEXT]),
    "llama_vocab_type": (c_int, [_VOCAB]),
    "llama_vocab_n_tokens": (c_int32, [_VOCAB]),
    "llama_vocab_get_text": (c_char_p, [_VOCAB, c_int32]),
    "llama_vocab_get_attr": (c_int, [_VOCAB, c_int32]),
    "llama_vocab_is_eog": (c_bool, [_VOCAB, c_int32]),
    "llama_vocab_bos": (c_int32, [_VOCAB]),
    "llama_vocab_eos": (c_int32, [_VOCAB]),
    "llama_vocab_get_add_bos": (c_bool, [_VOCAB]),
    "llama_vocab_get_suppress_tokens": (POINTER(c_int32), [_VOCAB, POINTER(c_int32)]),
    "llama_tokenize": (c_int32, [_VOCAB, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool]),
    "llama_token_to_piece": (c_int32, [_VOCAB, c_int32, c_char_p, c_int32, c_int32, c_bool]),
    "ggml_get_type_traits": (POINTER(TypeTraits), [c_int]),
}
"""What is called, with what it returns and takes."""
