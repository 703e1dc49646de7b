"""Options of one request as frameworks give them: their usual names, a model's own options, and those of one call.

`SamplingParams` says what each option means. Here are the names that LLM frameworks use, `max_tokens` and `timeout`,
and which options of a call and of the model that is called go together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deepen_llm.config import SamplingParams, describe_unknown
from deepen_llm.errors import ConfigError

_FRAMEWORK_NAMES = {"max_new_tokens": "max_tokens", "timeout_s": "timeout"}
"""Both names are taken; the framework's one is kept."""
_ENGINE_NAMES = {name: engine_name for engine_name, name in _FRAMEWORK_NAMES.items()}
_NONE_IS_A_VALUE = ("seed", "logprobs")

OPTION_NAMES = tuple(_FRAMEWORK_NAMES.get(name, name) for name in SamplingParams.model_fields)
"""The options of the engine under the names that frameworks use."""
ALIASES = tuple(_FRAMEWORK_NAMES)
"""The engine's own names of the options that frameworks call otherwise."""
STRUCTURE_NAMES = ("json_schema", "regex", "grammar")
"""Options that say what an answer looks like; the nearest one given counts, alone."""

_CUTS = ("stop", "stop_token_ids")
"""Options that end an answer before its structure does."""
_GOES_ON = ("ignore_eos", "min_new_tokens")
"""Options that go on where a structure ends."""


def default_of(option: str) -> Any:
    """The engine's default of an option."""
    return SamplingParams.model_fields[_ENGINE_NAMES.get(option, option)].get_default()


def read_options(options: Mapping[str, Any], *, owner: str, others: Iterable[str] = ()) -> dict[str, Any]:
    """The options of one call under the names in `OPTION_NAMES`, without those that are None.

    None means that an option was not given, but for `seed` and `logprobs`, where it is a value: a fresh seed, no
    log-probabilities.

    Args:
        options: What the user gave.
        owner: The class that was called, for the message.
        others: Further options that a call may have.

    Raises:
        ConfigError: An option that does not exist, or two that contradict each other.
    """
    check_names(options, (*OPTION_NAMES, *ALIASES, *others), owner=owner, kind="option")
    given = {name: value for name, value in options.items() if value is not None or name in _NONE_IS_A_VALUE}
    return resolve_aliases(given)


def check_names(names: Iterable[str], known: Iterable[str], *, owner: str, kind: str) -> None:
    """Refuse a name that is not known.

    Raises:
        ConfigError: With the nearest known name, or all of them.
    """
    known = set(known)
    for name in names:
        if name not in known:
            raise ConfigError(describe_unknown(name, known, owner=owner, kind=kind))


def resolve_aliases(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with each alias replaced by the name that it stands for.

    Raises:
        ConfigError: Two names of one option with different values, or greedy decoding together with a cut of the
            distribution that can only matter to sampling.
    """
    resolved = dict(values)
    for alias, name in _FRAMEWORK_NAMES.items():
        if alias in resolved:
            value = resolved.pop(alias)
            if resolved.setdefault(name, value) != value:
                raise ConfigError(f"{name} and {alias} are one option; got {resolved[name]!r} and {value!r}: give one")
    _check_greedy(resolved.get("temperature"), resolved.get("top_p"))
    return resolved


def put_nearer(own: Mapping[str, Any], nearer: Mapping[str, Any]) -> dict[str, Any]:
    """What a call's options change in those of the model; None takes an option of the model away.

    A structure takes the place of any other, and of the model's `ignore_eos` and `min_new_tokens`; `temperature=0` that
    of a `top_p` and of an `n`. A structure and `stop` strings or tokens in the same call contradict each other; those
    of the model are for other answers and left out.

    Raises:
        ConfigError: Options of the call that contradict each other, or those of the model.
    """
    changes = dict(nearer)
    if any(name in nearer for name in STRUCTURE_NAMES):
        changes = {**dict.fromkeys((*STRUCTURE_NAMES, *_GOES_ON)), **changes}
    in_force = {**own, **changes}
    structure = next((name for name in STRUCTURE_NAMES if in_force.get(name) is not None), None)
    for name in _CUTS if structure else ():
        if nearer.get(name):
            raise ConfigError(
                f"an answer of a given {structure} must not be cut; got {name}={nearer[name]!r} with it: leave {name} "
                "out, or write into the structure where the answer ends"
            )
    if nearer.get("temperature") == 0:
        changes |= {name: None for name in ("top_p", "n") if name not in nearer}
    elif "temperature" not in nearer:
        _check_greedy(own.get("temperature"), nearer.get("top_p"))
    return changes


def make_params(options: Mapping[str, Any]) -> SamplingParams:
    """The engine's parameters for options under the names in `OPTION_NAMES`; None leaves the engine's default.

    `logprobs` may be a switch. What would cut an answer, `stop` and `stop_token_ids`, is left out where a structure is
    given: an answer that must parse is not cut.

    Raises:
        ConfigError: A value out of range, under the name that the option has here.
    """
    given = {_ENGINE_NAMES.get(name, name): value for name, value in options.items() if value is not None}
    if "logprobs" in given and isinstance(given["logprobs"], bool):
        given["logprobs"] = 0 if given["logprobs"] else None
    if any(name in given for name in STRUCTURE_NAMES):
        given = {name: value for name, value in given.items() if name not in _CUTS}
    try:
        return SamplingParams(**given)
    except ConfigError as error:
        if not error.problems:
            raise
        named = [f"{_FRAMEWORK_NAMES.get(name, name)}: {text}" if name else text for name, text in error.problems]
        raise ConfigError("; ".join(named)) from error


def _check_greedy(temperature: float | None, top_p: float | None) -> None:
    if temperature == 0 and top_p is not None and top_p != 1:
        raise ConfigError(
            f"temperature=0 takes the best token, so top_p={top_p!r} can never matter: "
            "raise the temperature or leave top_p out"
        )
