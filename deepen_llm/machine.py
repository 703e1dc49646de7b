"""The machine that figures were measured on."""

from __future__ import annotations

import platform

import torch


def describe_machine() -> dict[str, str | int]:
    """What the figures depend on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
    }
