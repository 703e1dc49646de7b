"""Options of one request as LangChain gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel

from deepen_llm.config.model_schema import read_model_schema
from deepen_llm.errors import ConfigError
from deepen_llm.frontends.options import read_options

_FOR_LANGCHAIN = {"stream"}
"""Per-call options that LangChain itself reads and passes on."""


def read_call(options: Mapping[str, Any], *, owner: str) -> dict[str, Any]:
    """The options of one call, `model` among them. Takes and raises what `read_options` does."""
    options = {name: value for name, value in options.items() if name not in _FOR_LANGCHAIN}
    read = read_options(options, owner=owner, others=("model",))
    if "json_schema" in read:
        read["json_schema"] = as_json_schema(read["json_schema"])
    return read


def as_json_schema(schema: Any) -> Any:
    """The JSON schema of a pydantic model (v2 or v1) or a TypedDict; a dictionary, or anything else, as it is.

    Raises:
        ConfigError: A class that has no JSON schema.
    """
    if not isinstance(schema, type):
        return schema
    try:
        return read_model_schema(schema) if issubclass(schema, BaseModel) else convert_to_json_schema(schema)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"a JSON schema must come from a pydantic model, a TypedDict or a dict; got {schema!r}: {error}"
        ) from error
