"""A model and its context as llama.cpp holds them, freed when they are closed or nobody has them any more."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, final

from deepen_llm.errors import MemberError, quote
from deepen_llm.members.gguf.declarations import KVOverride
from deepen_llm.members.gguf.library import last_errors, load_library
from deepen_llm.members.gguf.memory import CacheSize
from deepen_llm.members.gguf.settings import GGUFConfig

BATCH_TOKENS = 512
"""The most tokens that one call of llama.cpp takes."""
COMPUTED_TOKENS = 128
"""And of these it computes so many at a time: each needs a place for its attention to every token of the cache."""
NUM_SCRATCH = 16
"""Sequences beside the rows, for what is only looked at: as many branches go into one call."""
CACHE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "bf16": 30}
"""`ggml_type` by name."""
ALL_LAYERS = 2**31 - 1
BOOL_OVERRIDE = 2


@final
class LlamaModel:
    """A file that llama.cpp has opened: all of it, or its vocabulary alone.

    A vocabulary can be pickled: it is then opened anew from the file of the same path.
    """

    _vocabulary_of: tuple[Path, str, dict[str, bool]] | None = None

    def __init__(self, path: Path, config: GGUFConfig, name: str) -> None:
        """Load the weights, which stay in the file as far as the system sees fit.

        Raises:
            MemberError: llama.cpp cannot read the file, or GPU layers without a GPU.
        """
        library = load_library()
        if config.gpu_layers and not library.llama_supports_gpu_offload():
            raise MemberError(
                f"member {quote(name)}: gpu_layers={config.gpu_layers} needs a build of llama.cpp for a GPU, and the "
                "one that is installed has none: install such a build of xllamacpp, or leave gpu_layers out"
            )
        params = library.llama_model_default_params()
        params.n_gpu_layers = ALL_LAYERS if config.gpu_layers < 0 else config.gpu_layers
        params.use_extra_bufts = config.repack
        self._open(path, params, name)

    @classmethod
    def load_vocabulary(cls, path: Path, name: str, **overrides: bool) -> LlamaModel:
        """The vocabulary alone, some of the file's settings in force as they are given here.

        Raises:
            MemberError: llama.cpp cannot read it.
        """
        model = cls.__new__(cls)
        model._vocabulary_of = (path, name, overrides)
        params = load_library().llama_model_default_params()
        params.vocab_only = True
        given = (KVOverride * (len(overrides) + 1))()
        for place, (key, value) in enumerate(overrides.items()):
            given[place] = KVOverride(BOOL_OVERRIDE, f"tokenizer.ggml.{key}".encode(), (value,))
        params.kv_overrides = ctypes.cast(given, ctypes.c_void_p) if overrides else None
        model._open(path, params, name)
        return model

    def __reduce__(self) -> tuple[Callable[..., LlamaModel], tuple[object, ...]]:
        if self._vocabulary_of is None:
            raise TypeError("weights that llama.cpp has opened cannot be pickled: load them where they are needed")
        return _load_vocabulary, self._vocabulary_of

    def _open(self, path: Path, params: Any, name: str) -> None:
        self.library = load_library()
        last_errors.clear()
        pointer = self.library.llama_model_load_from_file(str(path).encode(), params)
        if not pointer:
            _refuse(name, path, "llama.cpp cannot load it", "take another file, or another version of xllamacpp")
        self.pointer = pointer
        self.vocab = self.library.llama_model_get_vocab(pointer)
        self._finalizer = weakref.finalize(self, self.library.llama_model_free, pointer)
        self._finalizer.atexit = False

    def free(self) -> None:
        """Give the memory back. What was made of the model must be freed before; may be called again."""
        self._finalizer()


def _load_vocabulary(path: Path, name: str, overrides: dict[str, bool]) -> LlamaModel:
    return LlamaModel.load_vocabulary(path, name, **overrides)


@final
class LlamaContext:
    """A model's cache of keys and values, shared by all rows, and what computes."""

    def __init__(self, model: LlamaModel, config: GGUFConfig, size: CacheSize, name: str) -> None:
        """Take the memory.

        Raises:
            MemberError: There is not enough, or the model does not go with the settings.
        """
        self.library, self.model = model.library, model
        params = self.library.llama_context_default_params()
        params.n_ctx = size.num_tokens
        params.n_batch, params.n_ubatch = BATCH_TOKENS, COMPUTED_TOKENS
        params.n_seq_max = config.rows + NUM_SCRATCH
        params.n_threads = params.n_threads_batch = config.threads or count_threads()
        params.type_k = params.type_v = CACHE_TYPES[config.cache_type]
        params.kv_unified = params.swa_full = True
        if config.flash_attention is not None:
            params.flash_attn_type = int(config.flash_attention)
        params.offload_kqv = params.op_offload = config.gpu_layers != 0
        last_errors.clear()
        pointer = self.library.llama_init_from_model(model.pointer, params)
        if not pointer:
            problem = f"llama.cpp makes no cache of {size.num_tokens:,} tokens in {config.cache_type}"
            _refuse(name, Path(config.model), problem, "ask for fewer tokens, fewer rows or another cache_type")
        self.pointer = pointer
        self.memory = self.library.llama_get_memory(pointer)
        self._finalizer = weakref.finalize(self, self.library.llama_free, pointer)
        self._finalizer.atexit = False

    def free(self) -> None:
        """Give the memory back; may be called again."""
        self._finalizer()


def count_threads() -> int:
    """Physical cores that this process may use, less one for everything else, and at least one.

    llama.cpp's threads wait busily for each other: on a machine whose every core they take, all else stands still.
    """
    logical = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min(logical, _count_cores() or logical) - 1, 1)


def _count_cores() -> int | None:
    """Physical cores, as Linux tells them; None elsewhere."""
    found = {path.read_text() for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/core_cpus_list")}
    return len(found) or None


def _refuse(name: str, path: Path, problem: str, hint: str) -> NoReturn:
    said = ": ".join(dict.fromkeys(line.partition(": ")[2] or line for line in last_errors))
    reason = f" ({said})" if said else ""
    raise MemberError(f"member {quote(name)} cannot be loaded from {quote(str(path))}: {problem}{reason}: {hint}")
