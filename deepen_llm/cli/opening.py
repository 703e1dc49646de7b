"""From the options of a command to an ensemble."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepen_llm.cli.console import loading
from deepen_llm.source import EnsembleSource

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble


def open_ensemble(source: EnsembleSource) -> Ensemble:
    """Load the models, and show that something happens. Raises what `EnsembleSource.open` does."""
    with loading("the bundled models" if source.is_starter else "models"):
        return source.open()
