"""LlamaIndex's names for decoding options, per LLM and per call, to `SamplingParams`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError

OPTIONS = frozenset(SamplingParams.model_fields) | {"max_tokens"}
_NONE_IS_A_VALUE = frozenset({"seed", "logprobs"})


def default(option: str) -> Any:
    """The default of an option, which is written once, in `SamplingParams`."""
    return SamplingParams.model_fields[option].get_default()


def build_params(settings: Mapping[str, Any], call: Mapping[str, Any]) -> SamplingParams:
    """The LLM's own settings with the options of one call on top.

    `max_tokens` and `max_new_tokens` are the same option. None in a call means the LLM's own setting, but for `seed`
    and `logprobs`, where it is a value: a fresh seed, no log-probabilities.

    Raises:
        ConfigError: An option of the call is unknown, given twice, or out of range.
    """
    check_names(call, OPTIONS)
    if "max_tokens" in call and "max_new_tokens" in call:
        raise ConfigError("max_tokens and max_new_tokens are the same option: give one of them")
    given = {name: value for name, value in call.items() if value is not None or name in _NONE_IS_A_VALUE}
    return SamplingParams(**{**_to_engine_names(settings), **_to_engine_names(given)})


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
    return {("max_new_tokens" if name == "max_tokens" else name): value for name, value in options.items()}
