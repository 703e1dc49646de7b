"""Where an ensemble comes from: what the constructors of both classes take, and how it is opened."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from deepen_llm.config import EnsembleConfig, FusionConfig, MemberConfig
from deepen_llm.errors import ConfigError

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble

ModelSource: TypeAlias = str | Path | EnsembleConfig | list[str | Path | MemberConfig]
"""A list of models, the path of an `ensemble.yaml`, a configuration, or "starter"."""


@dataclass(frozen=True)
class EnsembleSource:
    """What to open, and with which settings. None leaves a setting to the ensemble."""

    model: ModelSource | None = None
    weights: tuple[float, ...] | Literal["prompt"] | None = None
    main: int | str | None = None
    fusion: FusionConfig | None = None
    max_batch_size: int | None = None
    member_options: dict[str, Any] | None = None

    def given(self) -> dict[str, Any]:
        """The settings that were given, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def open(self) -> Ensemble:
        """Load the models. torch and transformers are imported here and not before.

        Raises:
            ConfigError: No model, a path that does not exist, or options that do not apply to this kind of source.
            DeepenError: Whatever else keeps the ensemble from loading; see `deepen_llm.Ensemble`.
        """
        from deepen_llm.ensemble import Ensemble

        settings = self.given()
        model = settings.pop("model", None)
        member_options = settings.pop("member_options", {})
        if model is None:
            raise ConfigError('give model= (a list of models, the path of an ensemble.yaml, or "starter") or ensemble=')
        if isinstance(model, list) or not _is_configured(model):
            models = [
                str(one) if isinstance(one, Path) else one for one in (model if isinstance(model, list) else [model])
            ]
            return Ensemble.from_pretrained(models, **settings, **member_options)
        if member_options:
            raise ConfigError(
                f"member_options apply to a list of models; got {sorted(member_options)} with a configuration or the "
                "starter models: write them into the members of the configuration"
            )
        if model == "starter":
            return Ensemble.starter(**settings)
        config = model if isinstance(model, EnsembleConfig) else EnsembleConfig.load(model)
        return Ensemble.from_config(config.replace(**settings))


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
            self._others = [other for other in self._others if not other.ensemble.closed]
            for known in (self, *self._others):
                if known.source == source:
                    return known
            self._others.append(OpenEnsemble(source.open(), source))
            return self._others[-1]


def _is_configured(model: str | Path | EnsembleConfig) -> bool:
    """Whether the members are written down elsewhere: the bundled models, a configuration, or a file with one."""
    return model == "starter" or isinstance(model, EnsembleConfig) or Path(model).suffix in {".yaml", ".yml"}
