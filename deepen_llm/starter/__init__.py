"""The bundled starter models, and held-out questions to them.

Three small language models of three architectures with three kinds of tokenizer. Each is strong in
another part of the same subjects. Importing this package loads neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deepen_llm.errors import ConfigError, quote

MODELS_FOLDER = Path(__file__).parent / "models"
MODEL_NAMES: tuple[str, ...] = ("llama", "neox", "qwen2")
TASKS: tuple[str, ...] = ("capitals", "elements", "arithmetic", "reading")

__all__ = ["MODELS_FOLDER", "MODEL_NAMES", "TASKS", "find_models", "model_paths"]


def model_paths() -> tuple[Path, ...]:
    """The folders of the bundled models, the main model of `Ensemble.starter()` first."""
    return tuple(MODELS_FOLDER / name for name in MODEL_NAMES)


def find_models(names: str | Sequence[str] | None = None) -> list[str]:
    """The folders of the bundled models of these names, or of one, or of all of them.

    Raises:
        ConfigError: A name that no bundled model has.
    """
    chosen = MODEL_NAMES if names is None else (names,) if isinstance(names, str) else names
    known = ", ".join(MODEL_NAMES)
    if not isinstance(chosen, Sequence):
        raise ConfigError(f"starter models are named in a list; got {quote(names)}: the bundled ones are {known}")
    if unknown := [name for name in chosen if name not in MODEL_NAMES]:
        raise ConfigError(f"there is no starter model {quote(unknown[0])}: the bundled ones are {known}")
    return [str(MODELS_FOLDER / name) for name in chosen]
