"""On which devices a model may be put: what is not there is refused before anything is loaded."""

from __future__ import annotations

import torch

from deepen_llm.errors import ConfigError, quote
from deepen_llm.members.transformers.settings import TransformersConfig

MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""What accelerate can be asked for by a word."""


def check_placement(config: TransformersConfig, name: str) -> None:
    """Refuse devices that this machine does not have.

    Raises:
        ConfigError: It names the setting, what came, and the devices that there are.
    """
    if config.device is not None:
        _check_device("device", config.device, name)
    if isinstance(config.device_map, str) and config.device_map not in MAPS:
        _check_device("device_map", config.device_map, name, f", or one of {', '.join(map(repr, MAPS))}")
    if isinstance(config.device_map, dict):
        for place in config.device_map.values():
            if place != "disk":
                _check_device("device_map", place, name, ", or 'disk'")


def available_devices() -> list[str]:
    """The devices of this machine, as torch calls them."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    accelerators = [f"{found.type}:{index}" for index in range(torch.accelerator.device_count())] if found else []
    return ["cpu", *accelerators]


def _check_device(setting: str, device: object, name: str, also: str = "") -> None:
    there = available_devices()
    try:
        asked = torch.device(device)  # type: ignore[call-overload]
    except (RuntimeError, TypeError):
        asked = None
    if asked is not None and any(asked in (torch.device(one), torch.device(one.partition(":")[0])) for one in there):
        return
    raise ConfigError(
        f"{setting} of member {quote(name)} must be one of {', '.join(map(repr, there))}{also}, which this machine has "
        f"for torch {torch.__version__}; got {quote(device)}"
    )
