"""What a request asks an answer to look like, as a grammar of llguidance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from deepen_llm.config import SamplingParams

JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON as `json.dumps` writes it: one way for each value, so that what is not content is forced and costs nothing."""

_OPENING = ("additionalProperties", "patternProperties", "unevaluatedProperties", "minProperties", "propertyNames")
_LITERAL = ("enum", "const", "default", "examples", "example")
"""Keywords whose values are data, whatever they look like."""


def build_grammar(params: SamplingParams, *, after_space: bool) -> str:
    """The grammar in llguidance's JSON notation.

    Args:
        params: They say what an answer looks like.
        after_space: One space comes first: the dummy space of a tokenizer, which is no part of the answer.
    """
    first = ' " "' if after_space else ""
    return json.dumps(
        {"grammars": [{"name": "whole", "lark_grammar": f"start:{first} @answer"}, {"name": "answer", **_body(params)}]}
    )


def _body(params: SamplingParams) -> dict[str, Any]:
    """The answer's own grammar."""
    if params.json_schema is not None:
        style = {**JSON_STYLE, **params.json_schema.get("x-guidance", {})}
        return {"json_schema": {**close_objects(params.json_schema), "x-guidance": style}}
    if params.regex is not None:
        escaped = params.regex.replace("/", "\\/")
        return {"lark_grammar": f"start: /{escaped}/"}
    return {"lark_grammar": params.grammar}


def close_objects(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema, with no properties but those that it names, where it leaves others open without saying so.

    What is decoded by it is valid under the schema as given; a model cannot go on with properties of its own. Schemas
    joined by `allOf` stay as they are: closed each by itself they would exclude each other.
    """
    if any(len(part.get("allOf", ())) > 1 for part in _parts(schema)):
        return dict(schema)
    closed = _close(schema)
    return closed if isinstance(closed, dict) else dict(schema)


def _close(part: Any) -> Any:
    if isinstance(part, list):
        return [_close(one) for one in part]
    if not isinstance(part, Mapping):
        return part
    closed = {key: value if key in _LITERAL else _close(value) for key, value in part.items()}
    names = part.get("properties")
    if isinstance(names, Mapping) and not any(key in part for key in _OPENING):
        required = part.get("required", ())
        if isinstance(required, (list, tuple)) and all(name in names for name in required):
            closed["additionalProperties"] = False
    return closed


def _parts(schema: Any) -> Iterator[Mapping[str, Any]]:
    """The schema and every mapping in it."""
    if isinstance(schema, Mapping):
        yield schema
    children = schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ()
    for child in children:
        yield from _parts(child)


def locate(schema: Mapping[str, Any] | None, message: str) -> str:
    """Where in a schema the keyword is that an error message quotes, as a path from `$`; empty where none is found."""
    quoted = set(message.split('"')[1::2])
    for path, key in _keys(schema or {}, "$"):
        if key in quoted:
            return path
    return ""


def _keys(schema: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every key of every mapping, with the path of the mapping."""
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            yield path, key
            yield from _keys(value, f"{path}.{key}")
    elif isinstance(schema, list):
        for place, value in enumerate(schema):
            yield from _keys(value, f"{path}[{place}]")
