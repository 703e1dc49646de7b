"""From the options of a command to an ensemble."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from deepen_llm.cli.console import loading
from deepen_llm.config import EnsembleConfig

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble


@dataclass(frozen=True)
class EnsembleSource:
    """What the user asked for: models, a configuration file, or neither: the bundled models."""

    models: tuple[str, ...] = ()
    config: Path | None = None
    weights: tuple[float, ...] | Literal["prompt"] | None = None
    main: int | str | None = None
    member_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_starter(self) -> bool:
        """Whether the bundled models are meant."""
        return not self.models and self.config is None

    def open(self, starter_members: tuple[str, ...] | None = None) -> Ensemble:
        """Load the models.

        Args:
            starter_members: Which of the bundled models, where they are meant; all if not given.

        Raises:
            DeepenError: Settings that cannot be used, a model that cannot be loaded, members that do not fit together.
        """
        config = None if self.config is None else EnsembleConfig.load(self.config).replace(**self._settings)
        with loading("the bundled models" if self.is_starter else "models"):
            from deepen_llm.ensemble import Ensemble

            if config is not None:
                return Ensemble.from_config(config)
            if self.models:
                return Ensemble.from_pretrained(self.models, **self._settings, **self.member_options)
            return Ensemble.starter(members=starter_members, **self._settings)

    @property
    def _settings(self) -> dict[str, Any]:
        given = {"weights": self.weights, "main": self.main}
        return {name: value for name, value in given.items() if value is not None}
