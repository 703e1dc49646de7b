"""A JSON schema in words: what models are told about an answer or about a tool's arguments.

Decoding keeps to the schema whatever a model knows of it; the words are for what the schema cannot force, the values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}


def ask_for(schema: Mapping[str, Any]) -> str:
    """One sentence that asks for an answer in JSON of this schema."""
    return f"Answer with JSON only: {describe(schema)}."


def describe(schema: Mapping[str, Any]) -> str:
    """The schema in words, such as `an object with "name" (text), "age" (a whole number or null)`."""
    return _describe(schema, schema, frozenset())


def _describe(part: Any, root: Mapping[str, Any], seen: frozenset[str]) -> str:
    """`seen` are the references that this part is within: what refers to itself is told once."""
    if not isinstance(part, Mapping):
        return "anything"
    if "$ref" in part:
        name = str(part["$ref"])
        return "another of the same" if name in seen else _describe(_resolve(name, root), root, seen | {name})
    if "const" in part:
        return _json(part["const"])
    if "enum" in part:
        return " or ".join(map(_json, part["enum"]))
    for key in ("anyOf", "oneOf", "allOf"):
        if key in part:
            words = [_describe(choice, root, seen) for choice in part[key]]
            return (" and " if key == "allOf" else " or ").join(dict.fromkeys(words))
    if "properties" in part:
        return _describe_object(part, root, seen)
    if part.get("type") == "array" and "items" in part:
        return f"a list, each of it {_describe(part['items'], root, seen)}"
    kind = part.get("type", "anything")
    kinds = map(str, kind if isinstance(kind, list) else [kind])
    return " or ".join(_TYPES.get(one, one) for one in kinds)


def _describe_object(part: Mapping[str, Any], root: Mapping[str, Any], seen: frozenset[str]) -> str:
    fields = []
    for name, field in part["properties"].items():
        about = field.get("description", "") if isinstance(field, Mapping) else ""
        words = _describe(field, root, seen)
        fields.append(f"{_json(name)} ({words}{'; ' if about else ''}{' '.join(about.split()).rstrip('.')})")
    return f"an object with {', '.join(fields)}" if fields else "an empty object"


def _resolve(reference: str, root: Mapping[str, Any]) -> Any:
    """The part of the schema that a `#/...` reference means; None, which is anything, where there is none."""
    part: Any = root
    for step in reference.removeprefix("#/").split("/"):
        part = part.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(part, Mapping) else None
    return part


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
