"""Options of one request: what LangChain calls them, what the engine calls them, and which are refused."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError

STRUCTURE_NAMES = ("json_schema", "regex", "grammar")
"""Options that say what an answer looks like; the nearest one given counts, alone."""

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
    *STRUCTURE_NAMES,
)
"""Options of the engine that the constructors and every call take."""

_CALL_NAMES = (*OPTION_NAMES, "timeout", "model")
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
        ConfigError: An option that does not exist, two that contradict each other, or a timeout that is none.
    """
    options = {name: value for name, value in options.items() if name not in _FOR_LANGCHAIN}
    check_names(options, (*_CALL_NAMES, *_ALIASES), owner=owner, kind="option of one call")
    read = resolve_aliases({name: value for name, value in options.items() if value is not None})
    if "json_schema" in read:
        read["json_schema"] = as_json_schema(read["json_schema"])
    timeout = read.get("timeout", 1)
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise ConfigError(f"timeout must be seconds above 0; got {timeout!r}: leave it out to wait as long as it takes")
    return read


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
    _check_greedy(resolved.get("temperature"), resolved.get("top_p"))
    return resolved


def put_nearer(own: Mapping[str, Any], nearer: Mapping[str, Any]) -> dict[str, Any]:
    """What a call's options change in those of the constructor; None takes an option of the constructor away.

    A structure takes the place of any other, `temperature=0` that of a `top_p`. A structure and `stop` strings in
    the same call contradict each other; those of the constructor are for other answers and left out.

    Raises:
        ConfigError: Options of the call that contradict each other, or those of the constructor.
    """
    changes = dict(nearer)
    if any(name in nearer for name in STRUCTURE_NAMES):
        changes = {**dict.fromkeys(STRUCTURE_NAMES), **changes}
    in_force = {**own, **changes}
    structure = next((name for name in STRUCTURE_NAMES if in_force.get(name) is not None), None)
    if structure and nearer.get("stop"):
        raise ConfigError(
            f"an answer of a given {structure} must not be cut; got stop={nearer['stop']!r} with it: leave stop out, "
            "or write into the structure where the answer ends"
        )
    if nearer.get("temperature") == 0 and "top_p" not in nearer:
        changes["top_p"] = None
    elif "temperature" not in nearer:
        _check_greedy(own.get("temperature"), nearer.get("top_p"))
    return changes


def make_params(options: Mapping[str, Any]) -> SamplingParams:
    """The engine's parameters for options under their LangChain names; None leaves the engine's default.

    `stop` is left out where a structure is given: an answer that must parse is not cut.

    Raises:
        ConfigError: A value out of range.
    """
    given = {_ENGINE_NAMES.get(name, name): value for name, value in options.items() if value is not None}
    if "logprobs" in given and isinstance(given["logprobs"], bool):
        given["logprobs"] = 0 if given["logprobs"] else None
    if any(name in given for name in STRUCTURE_NAMES):
        given.pop("stop", None)
    return SamplingParams(**given)


def as_json_schema(schema: Any) -> Any:
    """The JSON schema of a pydantic model (v2 or v1) or a TypedDict; a dictionary, or anything else, as it is.

    Raises:
        ConfigError: A class that has no JSON schema.
    """
    if not isinstance(schema, type):
        return schema
    try:
        return schema.model_json_schema() if issubclass(schema, BaseModel) else convert_to_json_schema(schema)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"a schema must be a pydantic model, a TypedDict or a dict; got {schema!r}: {error}"
        ) from error


def _check_greedy(temperature: float | None, top_p: float | None) -> None:
    if temperature == 0 and top_p is not None and top_p != 1:
        raise ConfigError(
            f"temperature=0 takes the best token, so top_p={top_p!r} can never matter: "
            "raise the temperature or leave top_p out"
        )
