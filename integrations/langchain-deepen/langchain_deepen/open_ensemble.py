"""An open ensemble behind a model, and those of the models that single calls ask for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, final

from deepen_llm.errors import ConfigError
from deepen_llm.frontends.context import ContextMeter
from deepen_llm.frontends.source import EnsembleSource

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble


@final
class OpenEnsemble:
    """An open ensemble, and the source that it was opened from (None where the caller brought it).

    Every copy of a model shares it; a pickle keeps the source alone, and loads the models anew.
    """

    def __init__(self, ensemble: Ensemble, source: EnsembleSource | None = None) -> None:
        self.ensemble = ensemble
        self.source = source
        self._others: list[OpenEnsemble] = []
        self._lock = threading.Lock()

    @cached_property
    def meter(self) -> ContextMeter:
        """What counts how much of the members' contexts a prompt takes."""
        return ContextMeter(self.ensemble.members)

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

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """This one: models are shared, not copied."""
        return self

    def __reduce__(self) -> tuple[Callable[[EnsembleSource], OpenEnsemble], tuple[EnsembleSource]]:
        """Where to load the models from.

        Raises:
            ConfigError: The caller brought the ensemble, so that nothing says where it comes from.
        """
        if self.source is None:
            raise ConfigError(
                "a pickle keeps where models come from; this one has an ensemble= that was opened elsewhere: give "
                "model= (a list of models, the path of an ensemble.yaml, an EnsembleConfig) to have it loaded anew"
            )
        return _reopen, (self.source,)


def _reopen(source: EnsembleSource) -> OpenEnsemble:
    """What a pickle of an open ensemble stands for."""
    return OpenEnsemble(source.open(), source)
