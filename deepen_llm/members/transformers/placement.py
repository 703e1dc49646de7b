"""On which devices a model may be put, and where it takes its tokens then."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from deepen_llm.config.settings import describe_unknown
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


def check_map(config: TransformersConfig, name: str, model: nn.Module) -> None:
    """Refuse a map of devices that names what a model does not have, or leaves some of its weights without a place.

    transformers may take no notice of either.

    Raises:
        ConfigError: It names the setting and the part of the model.
    """
    if not isinstance(config.device_map, dict):
        return
    owner = f"device_map of member {quote(name)}"
    named = {part for part, _ in (*model.named_modules(), *model.named_parameters(), *model.named_buffers())}
    if unknown := [part for part in config.device_map if part not in named]:
        shown = [part for part in named if part and part.count(".") <= 1]
        raise ConfigError(describe_unknown(str(unknown[0]), shown, owner=owner, kind="part"))
    for weight, _ in model.named_parameters():
        if not any(weight == part or weight.startswith(f"{part}.") or not part for part in config.device_map):
            raise ConfigError(
                f"{owner} must give every weight of the model a device; it has none for {weight}: add it, or a module "
                "around it; '' is all of the model"
            )


def input_device(model: PreTrainedModel) -> torch.device:
    """Where a model takes its tokens; where it is spread over devices, its logits come back there, too.

    Weights that are on disk or in another memory between passes have a device only within one.
    """
    embedding: Any = model.get_input_embeddings()
    device: torch.device = embedding.weight.device
    if device.type == "meta" and (hook := getattr(embedding, "_hf_hook", None)) is not None:
        return torch.device(hook.execution_device)
    return device


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
