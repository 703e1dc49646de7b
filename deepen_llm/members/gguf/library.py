"""llama.cpp itself: found, checked and loaded once; its log goes to Python's.

The compiled library comes in the package xllamacpp, whose one file, free of dependencies, installs in seconds on Linux,
macOS and Windows and shows the whole C interface: llama-cpp-python has to be compiled for minutes, and the wheels of
llama-cpp-py-sync need a newer libc than they say. The interface is called through ctypes, by declarations of our own;
since its structures change between versions, the version is pinned and their layout is checked by the defaults that
they come with.
"""

from __future__ import annotations

import ctypes
import logging
import platform
from collections import deque
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from deepen_llm.errors import MissingDependencyError
from deepen_llm.members.gguf.declarations import FUNCTIONS, LogCallback

logger = logging.getLogger(__name__)

PACKAGE = "xllamacpp"
INSTALL = "pip install 'deepen-llm[llama]'"
SUFFIXES = (".so", ".pyd", ".dylib")
LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.INFO, 4: logging.WARNING}
"""llama.cpp's levels by ours: what it calls information is for its developers, and what it calls an error becomes an
exception of ours."""
ERROR, CONTINUED = 4, 5
MODEL_DEFAULTS = {"n_gpu_layers": -1, "split_mode": 1, "load_mode": -1, "main_gpu": 0, "use_extra_bufts": True}
CONTEXT_DEFAULTS = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "pooling_type": -1,
    "flash_attn_type": -1,
    "yarn_beta_slow": -1.0,
    "defrag_thold": -1.0,
    "type_k": 1,
    "type_v": 1,
    "moe_cache_size": 0,
    "abort_callback": None,
    "offload_kqv": True,
    "swa_full": True,
    "kv_unified": False,
    "n_samplers": 0,
    "ctx_other": None,
}
"""Fields from the first to the last of both structures, and what they come with."""

last_errors: deque[str] = deque(maxlen=4)
"""What llama.cpp said last of what went wrong, the newest last."""


@cache
def load_library() -> Any:
    """llama.cpp, ready to be called: a `ctypes.CDLL`, which lets other threads run meanwhile.

    Raises:
        MissingDependencyError: It is not installed, of another version, or not for this machine.
    """
    path = _find_library()
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT" and _is_x86():
        raise MissingDependencyError(
            "GGUF files need a processor with AVX2, for which llama.cpp was built; this one has none: take the same "
            "model as transformers has it"
        )
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in FUNCTIONS.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise MissingDependencyError(
            f"GGUF files need llama.cpp; what is installed of it ({path.name}) cannot be used ({error}): {INSTALL}"
        ) from error
    _check_layout(library)
    library.llama_log_set(_LOG_CALLBACK, None)
    library.llama_backend_init()
    return library


def _find_library() -> Path:
    spec = find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec is not None else None
    found = [path for place in places or () for path in sorted(Path(place).iterdir()) if path.suffix in SUFFIXES]
    if not found:
        raise MissingDependencyError(f"GGUF files need llama.cpp, which is not installed: {INSTALL}")
    return found[0]


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")


def _check_layout(library: Any) -> None:
    """Refuse a version whose structures are others: it would read one setting as another."""
    for made, defaults in (
        (library.llama_model_default_params(), MODEL_DEFAULTS),
        (library.llama_context_default_params(), CONTEXT_DEFAULTS),
    ):
        if differing := [name for name, value in defaults.items() if getattr(made, name) != value]:
            raise MissingDependencyError(
                f"GGUF files need the version of llama.cpp that deepen_llm was written for; in the one that is "
                f"installed, {type(made).__name__}.{differing[0]} is {getattr(made, differing[0])!r} and not "
                f"{defaults[differing[0]]!r} by default: {INSTALL}"
            )


def _write_log(level: int, text: bytes, data: Any) -> None:
    """One piece of llama.cpp's log."""
    del data
    said = (text or b"").decode("utf-8", "replace").strip()
    if not said.strip("."):
        return
    if level == ERROR:
        last_errors.append(said)
    if level != CONTINUED:
        logger.log(LEVELS.get(level, logging.DEBUG), "llama.cpp: %s", said)


_LOG_CALLBACK = LogCallback(_write_log)
"""Kept alive by the module: llama.cpp keeps its address."""
