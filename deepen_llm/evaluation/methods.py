"""Ways to fuse that `deepen eval --method` compares, by name."""

from __future__ import annotations

from deepen_llm.config import FusionConfig
from deepen_llm.errors import ConfigError

METHODS: dict[str, FusionConfig] = {
    "default": FusionConfig(),
    "published": FusionConfig.published(),
    "relative-token": FusionConfig(method="relative", reading="token"),
    "relative-text": FusionConfig(method="relative", reading="text"),
    "text": FusionConfig(method="text"),
    "text-geometric": FusionConfig(method="text", mean="geometric"),
    "equal-text": FusionConfig(method="equal_text"),
    "union": FusionConfig(method="union"),
}
"""A name for every fusion setting worth comparing, whatever the default is. Add to it to compare one of your own."""


def find_method(name: str) -> FusionConfig:
    """The fusion settings of this name.

    Raises:
        ConfigError: No method has the name; it lists those that there are.
    """
    if name not in METHODS:
        raise ConfigError(f"there is no method {name!r}: the known ones are {', '.join(METHODS)}")
    return METHODS[name]
