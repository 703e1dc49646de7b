"""Where an ensemble comes from: what a user names, and how it is opened. Importing this loads no torch."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

from deepen_llm.config import EnsembleConfig, FusionConfig, MemberConfig, WeightingConfig
from deepen_llm.errors import ConfigError, MemberError

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble

ModelSource: TypeAlias = str | Path | EnsembleConfig | list[str | Path | MemberConfig]
"""A list of models, one model, the path of an `ensemble.yaml`, a configuration, or "starter"."""

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9_][\w.-]{0,95})?", re.ASCII)
"""A model's name on the hub, most of them with an owner before a slash."""


@final
@dataclass(frozen=True)
class EnsembleSource:
    """What to open, and with which settings. None leaves a setting to the ensemble."""

    model: ModelSource | None = None
    weights: Sequence[float] | str | WeightingConfig | None = None
    main: int | str | None = None
    fusion: FusionConfig | None = None
    max_batch_size: int | None = None
    member_options: dict[str, Any] | None = None
    """Settings of `MemberConfig` for each model of a list."""

    @property
    def is_starter(self) -> bool:
        """Whether the bundled models are meant."""
        return self.model == "starter"

    def given(self) -> dict[str, Any]:
        """The settings that were given, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def check(self) -> None:
        """Find out before seconds of imports that a model is not there.

        Raises:
            MemberError: Something that can be no name on the hub, and is no path either.
        """
        members = self.model.members if isinstance(self.model, EnsembleConfig) else self.model
        for member in members if isinstance(members, (list, tuple)) else ():
            if isinstance(member, (str, Path)):
                _check_exists(str(member))
            elif isinstance(member, MemberConfig) and member.kind == "transformers":
                _check_exists(member.model)

    def open(self) -> Ensemble:
        """Load the models. torch and transformers are imported here and not before.

        Raises:
            ConfigError: No model, something that is none, a path that does not exist, or options that do not apply to
                this kind of source.
            DeepenError: Whatever else keeps the ensemble from loading; see `deepen_llm.Ensemble`.
        """
        settings = self.given()
        model = settings.pop("model", None)
        member_options = settings.pop("member_options", {})
        if model is None:
            raise ConfigError('give model= (a list of models, the path of an ensemble.yaml, or "starter") or ensemble=')
        model = _read(model)
        if member_options and not isinstance(model, list):
            raise ConfigError(
                f"member_options apply to a list of models; got {sorted(member_options)} with a configuration or the "
                "starter models: write them into the members of the configuration"
            )
        if isinstance(model, Path):
            model = EnsembleConfig.load(model)

        from deepen_llm import Ensemble

        if isinstance(model, list):
            return Ensemble.from_pretrained(model, **settings, **member_options)
        if isinstance(model, EnsembleConfig):
            return Ensemble.from_config(model.replace(**settings))
        return Ensemble.starter(**settings)

    def open_unless(self, ensemble: Ensemble | None) -> Ensemble:
        """The ensemble that is ready, if there is one; this source's otherwise.

        Raises:
            ConfigError: Settings beside an ensemble that is ready, something that is none, or what `open` refuses.
            DeepenError: What else `open` raises.
        """
        if ensemble is None:
            return self.open()
        if given := self.given():
            raise ConfigError(f"give ensemble= alone; got {', '.join(given)} beside it, which it already has")
        if not all(hasattr(ensemble, name) for name in ("generate", "chat", "members")):
            raise ConfigError(f"ensemble must be a deepen_llm.Ensemble; got {type(ensemble).__name__}: open one first")
        return ensemble


def without_paths(model: Any) -> Any:
    """A source, or a list of models, with strings in place of paths; other sequences of models become lists."""
    if isinstance(model, (list, tuple)):
        return [without_paths(member) for member in model]
    return str(model) if isinstance(model, Path) else model


def _read(model: Any) -> list[str | MemberConfig] | EnsembleConfig | Path | Literal["starter"]:
    """A source in the form that says its kind: models are a list, also a single one, and a path is a configuration's.

    Raises:
        ConfigError: Something that names no models, or a name that was meant to be "starter".
    """
    if isinstance(model, (list, tuple)):
        return list(without_paths(model))
    if isinstance(model, EnsembleConfig):
        return model
    if not isinstance(model, (str, Path)):
        raise ConfigError(
            'model must be a list of models, one model, the path of an ensemble.yaml, an EnsembleConfig or "starter"; '
            f"got {model!r}: write one of them"
        )
    if model == "starter":
        return "starter"
    if Path(model).suffix in {".yaml", ".yml"}:
        return Path(model)
    if isinstance(model, str) and _is_misspelt(model):
        raise ConfigError(f"there is no model {model!r}, neither as a folder nor bundled: did you mean 'starter'?")
    return [str(model)]


def _check_exists(model: str) -> None:
    """Raise MemberError for what can be no name on the hub and is no path; the loader knows of everything else."""
    if HUB_NAME.fullmatch(model) or model.startswith(("http://", "https://")):
        return
    try:
        is_there = Path(model).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # a name too long for any file, a home of nobody, a NUL
        is_there = False
    if not is_there:
        raise MemberError(f"there is no folder or file {model!r}: give a model's folder, its hub name or a GGUF file")


def _is_misspelt(name: str) -> bool:
    """Whether a name is nearly "starter", and neither a folder nor one of a hub, which has a slash."""
    is_path = "/" in name or os.sep in name or Path(name).is_dir()
    return not is_path and bool(difflib.get_close_matches(name.lower(), ["starter"], cutoff=0.8))
