"""Ways to fuse that `deepen eval --method` compares, by name."""

from __future__ import annotations

from deepen_llm.config import FusionConfig
from deepen_llm.errors import ConfigError

METHODS: dict[str, FusionConfig] = {
    "default": FusionConfig(),
    "published": FusionConfig.published(),
}
"""A name for every fusion setting worth comparing. Add to it to compare one of your own."""


def find_method(name: str) -> FusionConfig:
    """The fusion settings of this name.

    Raises:
        ConfigError: No method has the name; it lists those that there are.
    """
    if name not in METHODS:
        raise ConfigError(f"there is no method {name!r}: the known ones are {', '.join(METHODS)}")
    return METHODS[name]
