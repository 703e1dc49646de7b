"""Two or more language models with different tokenizers answer as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepen_llm.config import EnsembleConfig, FusionConfig, MemberConfig, SamplingParams
from deepen_llm.errors import DeepenError
from deepen_llm.garbage import uncollected
from deepen_llm.results import Chunk, Generation, Score, StepTrace, TokenLogprob, Usage

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble

__version__ = "0.1.0"

__all__ = [
    "Chunk",
    "DeepenError",
    "Ensemble",
    "EnsembleConfig",
    "FusionConfig",
    "Generation",
    "MemberConfig",
    "SamplingParams",
    "Score",
    "StepTrace",
    "TokenLogprob",
    "Usage",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import torch only when an `Ensemble` is asked for: the command's `--help` must answer at once."""
    if name == "Ensemble":
        with uncollected:
            from deepen_llm.ensemble import Ensemble

        return Ensemble
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
