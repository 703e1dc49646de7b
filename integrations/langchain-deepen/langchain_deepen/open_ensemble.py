"""An open ensemble behind a model, and those of the models that single calls ask for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, final

from deepen_llm.frontends.source import EnsembleSource

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble


@final
class OpenEnsemble:
    """An open ensemble, and the source that it was opened from (None where the caller brought it)."""

    def __init__(self, ensemble: Ensemble, source: EnsembleSource | None = None) -> None:
        self.ensemble = ensemble
        self.source = source
        self._others: list[OpenEnsemble] = []
        self._lock = threading.Lock()

    def other(self, source: EnsembleSource) -> OpenEnsemble:
        """The ensemble of another source, for a call with a `model` of its own: loaded once, and kept as long as this.

        Raises:
            DeepenError: Whatever keeps it from loading.
        """
        with self._lock:
            self._others = [other for other in self._others if not other.ensemble.is_closed]
            for known in (self, *self._others):
                if known.source == source:
                    return known
            self._others.append(OpenEnsemble(source.open(), source))
            return self._others[-1]
