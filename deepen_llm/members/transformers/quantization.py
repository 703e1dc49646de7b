"""How a model is quantized: what transformers would pass over in silence is refused by name."""

from __future__ import annotations

import inspect
import json
from typing import Any

from transformers import PreTrainedConfig
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from deepen_llm.config.settings import describe_unknown
from deepen_llm.errors import ConfigError, MemberError, quote

BITSANDBYTES = ("load_in_8bit", "load_in_4bit")
"""Either says that the method is bitsandbytes, which is two methods to transformers."""


def check_quantization(given: Any, settings: PreTrainedConfig, name: str) -> None:
    """Refuse a quantization that there is not.

    Args:
        given: The member's `quantization_config`.
        settings: The checkpoint's, which may say that its weights are quantized already.
        name: Of the member.

    Raises:
        ConfigError: The member's names no method, one that there is not, or settings that the method does not have.
        MemberError: The checkpoint's names a method that this version of transformers does not have.
    """
    if given is not None and not hasattr(given, "quant_method"):
        _check_given(given, name)
    held = getattr(settings, "quantization_config", None)
    if isinstance(held, dict) and (method := _find_method(held)) not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        raise MemberError(
            f"the weights of member {quote(name)} are quantized by {quote(method)}, which this version of transformers "
            f"cannot read (it reads {_list_methods()}): take the model in another format"
        )


def find_method(given: Any, settings: PreTrainedConfig) -> str:
    """How a model's weights are quantized, once they are loaded; empty where they are not."""
    held = given if given is not None else getattr(settings, "quantization_config", None)
    if held is None:
        return ""
    values = held if isinstance(held, dict) else vars(held)
    return _find_method(values) or "unknown"


def describe_quantization(settings: PreTrainedConfig) -> dict[str, Any] | str:
    """How a loaded model's weights are quantized, as JSON values; empty where they are not."""
    held = getattr(settings, "quantization_config", None)
    if not held:
        return ""
    values = held if isinstance(held, dict) else held.to_dict()
    described: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return described


def _check_given(given: Any, name: str) -> None:
    owner = f"quantization_config of member {quote(name)}"
    if not isinstance(given, dict):
        raise ConfigError(
            f"{owner} must be a quantization config of transformers, or its dictionary; got {quote(given)}: write "
            "{'load_in_8bit': True}, say"
        )
    method = _find_method(given)
    if method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        raise ConfigError(f"{owner} must name a quant_method, one of {_list_methods()}; got {quote(method)}")
    if not method.startswith(("bitsandbytes", "torchao")):
        return  # the others write settings that they read under another name
    kind = AUTO_QUANTIZATION_CONFIG_MAPPING[method]
    known = {name for of in kind.__mro__[:-1] for name in inspect.signature(of).parameters}
    known = (known | {f"_{name}" for name in BITSANDBYTES} | {"quant_method"}) - {"self", "kwargs"}
    for key in given:
        if key not in known:
            raise ConfigError(describe_unknown(str(key), known, owner=owner, kind="setting"))


def _find_method(values: dict[str, Any]) -> str | None:
    """The method that a dictionary names, as transformers finds it."""
    for flag in BITSANDBYTES:
        if values.get(flag):
            return f"bitsandbytes_{flag.removeprefix('load_in_')}"
    method = values.get("quant_method")
    return None if method is None else str(getattr(method, "value", method))


def _list_methods() -> str:
    others = sorted(method for method in AUTO_QUANTIZATION_CONFIG_MAPPING if not method.startswith("bitsandbytes"))
    return f"bitsandbytes (with {' or '.join(BITSANDBYTES)}), {', '.join(others)}"
