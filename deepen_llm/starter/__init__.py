"""The bundled starter models, and held-out questions to them.

Three small language models of three architectures with three kinds of tokenizer. Each is strong in
another part of the same subjects. Importing this package loads neither torch nor transformers.
"""

from __future__ import annotations

from pathlib import Path

MODELS_FOLDER = Path(__file__).parent / "models"
MODEL_NAMES: tuple[str, ...] = ("llama", "neox", "qwen2")
TASKS: tuple[str, ...] = ("capitals", "elements", "arithmetic", "reading")

__all__ = ["MODELS_FOLDER", "MODEL_NAMES", "TASKS", "model_paths"]


def model_paths() -> tuple[Path, ...]:
    """The folders of the bundled models, the main model of `Ensemble.starter()` first."""
    return tuple(MODELS_FOLDER / name for name in MODEL_NAMES)
