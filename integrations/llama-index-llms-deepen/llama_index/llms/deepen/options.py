"""LlamaIndex's names for decoding options, per LLM and per call, to `SamplingParams`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError

OPTIONS = frozenset(SamplingParams.model_fields) | {"max_tokens", "timeout"}
STRUCTURES = ("json_schema", "regex", "grammar")
"""What an answer looks like; one of them, in a call only."""
_NONE_IS_A_VALUE = frozenset({"seed", "logprobs"})
_ENDS_EARLY_OR_LATE = frozenset({"stop", "ignore_eos"})


def default(option: str) -> Any:
    """The default of an option, which is written once, in `SamplingParams`."""
    return SamplingParams.model_fields[option].get_default()


def build_params(settings: Mapping[str, Any], call: Mapping[str, Any]) -> SamplingParams:
    """The LLM's own settings with the options of one call on top.

    `max_tokens` and `max_new_tokens` are the same option. None in a call means the LLM's own setting, but for `seed`
    and `logprobs`, where it is a value: a fresh seed, no log-probabilities. A call that gives a structure ends where
    the structure does: `stop` and `ignore_eos` of the LLM hold for its other calls.

    Raises:
        ConfigError: An option of the call is unknown, given twice, or out of range.
    """
    check_names(call, OPTIONS)
    if "max_tokens" in call and "max_new_tokens" in call:
        raise ConfigError("max_tokens and max_new_tokens are the same option: give one of them")
    given = {name: value for name, value in call.items() if value is not None or name in _NONE_IS_A_VALUE}
    if any(name in given for name in STRUCTURES):
        settings = {name: value for name, value in settings.items() if name not in _ENDS_EARLY_OR_LATE}
    return SamplingParams(**{**_to_engine_names(settings), **_to_engine_names(given)})


def choose_timeout(own_s: float | None, call: Mapping[str, Any]) -> float | None:
    """Seconds in which an answer must be whole: the call's, else the LLM's own; None is without end.

    Raises:
        ConfigError: It is not a number above 0.
    """
    timeout_s = own_s if call.get("timeout") is None else call["timeout"]
    if timeout_s is None:
        return None
    is_number = isinstance(timeout_s, (int, float)) and not isinstance(timeout_s, bool)
    if not is_number or not 0 < timeout_s < math.inf:
        raise ConfigError(f"timeout must be a number of seconds above 0; got {timeout_s!r}: leave it out to wait")
    return float(timeout_s)


def check_names(names: Iterable[str], known: Iterable[str]) -> None:
    """Refuse names that are not known, with the nearest one that is.

    Raises:
        ConfigError: At least one name is unknown.
    """
    known = sorted(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known options: {', '.join(known)}"
            raise ConfigError(f"DeepenLLM has no option {name!r}: {hint}")


def to_setting_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as `DeepenLLM` stores them: `max_new_tokens` is `max_tokens`."""
    return {("max_tokens" if name == "max_new_tokens" else name): value for name, value in options.items()}


def _to_engine_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """As `SamplingParams` takes them; the time limit is none of them."""
    named = {("max_new_tokens" if name == "max_tokens" else name): value for name, value in options.items()}
    named.pop("timeout", None)
    return named
