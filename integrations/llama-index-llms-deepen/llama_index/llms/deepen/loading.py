"""From what a user gives as `model` to an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from deepen_llm.config import EnsembleConfig, MemberConfig
from deepen_llm.errors import ConfigError

if TYPE_CHECKING:
    from deepen_llm import Ensemble

ModelSource: TypeAlias = str | EnsembleConfig | list[str | MemberConfig]
FORMS = 'a list of models, the path of an ensemble.yaml, an EnsembleConfig, or "starter"'


def as_source(model: str | Path | EnsembleConfig | Sequence[str | Path | MemberConfig] | None) -> ModelSource | None:
    """`model` in a form that can be stored: paths as strings."""
    if model is None or isinstance(model, (str, EnsembleConfig)):
        return model
    if isinstance(model, Path):
        return str(model)
    return [str(member) if isinstance(member, Path) else member for member in model]


def open_ensemble(model: ModelSource | None, ensemble: Ensemble | None, **settings: Any) -> Ensemble:
    """The ready ensemble, or the one that `model` names, loaded. Settings that are None were not given.

    Raises:
        ConfigError: Not exactly one of the two, a file that does not exist, or settings that do not fit.
        DeepenError: A member cannot be loaded, or the members do not fit together.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if model is not None and ensemble is None:
        return _load(model, given.pop("member_options", {}), given)
    if model is not None or ensemble is None:
        came = "neither" if model is None else "both"
        raise ConfigError(f"DeepenLLM needs either model ({FORMS}) or ensemble; got {came}: give one of them")
    if given:
        raise ConfigError(f"{', '.join(given)} cannot be given beside a ready ensemble: build it with them")
    return ensemble


def _load(model: ModelSource, member_options: dict[str, Any], settings: dict[str, Any]) -> Ensemble:
    """What `model` names, loaded with these settings."""
    models = _listed(model)
    if models is None and member_options:
        raise ConfigError(
            f"member_options belong to a list of models; got {sorted(member_options)} with {model!r}: "
            "give a list, or write them into the configuration's members"
        )
    if isinstance(model, str) and _is_config_file(model):
        model = EnsembleConfig.load(model)

    from deepen_llm import Ensemble  # here, because it imports torch

    if isinstance(model, EnsembleConfig):
        return Ensemble.from_config(model.replace(**settings))
    if models is None:
        return Ensemble.starter(**settings)
    return Ensemble.from_pretrained(models, **settings, **member_options)


def _listed(model: ModelSource) -> list[str | MemberConfig] | None:
    """The models that were given by name; None for a configuration and for the starter models."""
    if isinstance(model, list):
        return model
    if isinstance(model, EnsembleConfig) or model == "starter" or _is_config_file(model):
        return None
    return [model]


def _is_config_file(model: str) -> bool:
    return Path(model).suffix in {".yaml", ".yml"}
