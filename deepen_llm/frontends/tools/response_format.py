"""`response_format` of a request: the schema of its answer, and what the models are told about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepen_llm.errors import ConfigError, quote
from deepen_llm.frontends.tools.wording import ask_for


def read_response_format(given: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The JSON schema of the answer, None where it is any text, and the words for the models.

    Args:
        given: `{"type": "text"}`, `{"type": "json_object"}`, of which the models are told by the prompt, or
            `{"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}`.

    Raises:
        ConfigError: None of these.
    """
    kind, inner = (given.get("type"), given.get("json_schema")) if isinstance(given, Mapping) else (None, None)
    if kind == "text":
        return None, ""
    if kind == "json_object":
        return {"type": "object"}, ""
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    if kind != "json_schema" or not isinstance(schema, dict):
        raise ConfigError(
            'response_format must be {"type": "text"}, {"type": "json_object"} or {"type": "json_schema", '
            f'"json_schema": {{"name": ..., "schema": {{...}}}}}}; got {quote(given)}'
        )
    return schema, ask_for(schema)
