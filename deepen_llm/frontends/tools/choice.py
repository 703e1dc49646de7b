"""Which tools may be called: the `tool_choice` of a request, in all the ways in which it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

from deepen_llm.errors import ConfigError, quote

ToolChoice: TypeAlias = str | bool | Mapping[str, Any] | None
"""What `read_choice` reads."""

_FORCED = ("any", "required", True)
_FREE = ("auto", None, False)


@final
@dataclass(frozen=True, slots=True)
class Choice:
    """Whether tools may and must be called, and whether it is one of them."""

    is_allowed: bool = True
    is_forced: bool = False
    name: str | None = None
    """The one tool that has to be called."""


def read_choice(given: ToolChoice) -> Choice:
    """What a `tool_choice` means.

    "auto", None or False leaves it to the models whether to call; "any", "required" or True forces a call; a tool's
    name, or `{"type": "function", "function": {"name": ...}}`, forces a call of that tool; "none" forbids calls.

    Raises:
        ConfigError: None of these.
    """
    if isinstance(given, Mapping):
        inner = given.get("function", given)
        name = inner.get("name") if isinstance(inner, Mapping) else None
        if not isinstance(name, str):
            raise ConfigError(f'tool_choice must hold {{"function": {{"name": ...}}}}; got {quote(given)}')
        return Choice(is_forced=True, name=name)
    if given in _FREE or given in _FORCED:
        return Choice(is_forced=given in _FORCED)
    if not isinstance(given, str):
        raise ConfigError(f"tool_choice must be auto, any, required, none or a tool's name; got {quote(given)}")
    return Choice(is_allowed=False) if given == "none" else Choice(is_forced=True, name=given)
