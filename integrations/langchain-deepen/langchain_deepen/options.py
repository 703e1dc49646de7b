"""Options of one request: what LangChain calls them, what the engine calls them, and which are refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError

OPTION_NAMES = (
    "temperature",
    "max_tokens",
    "top_p",
    "top_k",
    "min_p",
    "stop",
    "seed",
    "logprobs",
    "ignore_eos",
    "trace",
)
"""Options that the constructors and every call take."""

_ALIASES = {"max_new_tokens": "max_tokens"}
_ENGINE_NAMES = {"max_tokens": "max_new_tokens"}
_FOR_LANGCHAIN = {"stream"}
"""Per-call options that LangChain itself reads and passes on."""


def read_options(options: Mapping[str, Any], *, owner: str) -> dict[str, Any]:
    """The options of one call under their LangChain names, without those that are None (not given).

    Args:
        options: What came with `bind`, `invoke` or another call.
        owner: The class that was called, for the message.

    Raises:
        ConfigError: An option that does not exist, or two that contradict each other.
    """
    options = {name: value for name, value in options.items() if name not in _FOR_LANGCHAIN}
    check_names(options, (*OPTION_NAMES, *_ALIASES), owner=owner, kind="option of one call")
    return resolve_aliases({name: value for name, value in options.items() if value is not None})


def check_names(names: Iterable[str], known: Iterable[str], *, owner: str, kind: str) -> None:
    """Refuse a name that is not known.

    Raises:
        ConfigError: With the nearest known name, or all of them.
    """
    known = list(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? Known" if near else "known"
            raise ConfigError(f"{owner} has no {kind} {name!r}: {hint}: {', '.join(sorted(known))}")


def resolve_aliases(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with each alias replaced by the name that it stands for.

    Raises:
        ConfigError: Two names of one option with different values, or greedy decoding together with a cut of the
            distribution that can only matter to sampling.
    """
    resolved = dict(values)
    for alias, name in _ALIASES.items():
        if alias in resolved:
            value = resolved.pop(alias)
            if resolved.setdefault(name, value) != value:
                raise ConfigError(f"{name} and {alias} are one option; got {resolved[name]!r} and {value!r}: give one")
    top_p = resolved.get("top_p")
    if resolved.get("temperature") == 0 and top_p is not None and top_p != 1:
        raise ConfigError(
            f"temperature=0 takes the best token, so top_p={top_p!r} can never matter: "
            "raise the temperature or leave top_p out"
        )
    return resolved


def make_params(options: Mapping[str, Any]) -> SamplingParams:
    """The engine's parameters for options under their LangChain names; None leaves the engine's default.

    Raises:
        ConfigError: A value out of range.
    """
    given = {_ENGINE_NAMES.get(name, name): value for name, value in options.items() if value is not None}
    if "logprobs" in given and isinstance(given["logprobs"], bool):
        given["logprobs"] = 0 if given["logprobs"] else None
    return SamplingParams(**given)
