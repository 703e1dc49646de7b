"""A JSON schema in words: what models are told about an answer or about a tool's arguments.

Decoding keeps to the schema whatever a model knows of it; the words are for what the schema cannot force, the values.
They are shorter than the schema, and have its references resolved.
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
_LIMITS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "above {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
    "minLength": "length at least {}",
    "maxLength": "length at most {}",
    "pattern": "matching {}",
    "format": "in the format {}",
    "minItems": "at least {} of them",
    "maxItems": "at most {} of them",
}
"""What narrows a type, in the order in which it is told."""


def ask_for(schema: Mapping[str, Any]) -> str:
    """A request for an answer in JSON of this schema, and what the schema says of itself."""
    about = _about(schema)
    return f"Answer with JSON only: {describe(schema)}." + (f" About it: {about}." if about else "")


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
    if isinstance(part.get("enum"), list):
        return " or ".join(map(_json, part["enum"]))
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(part.get(key), list):
            words = [_describe(choice, root, seen) for choice in part[key]]
            return (" and " if key == "allOf" else " or ").join(dict.fromkeys(words))
    if isinstance(part.get("properties"), Mapping):
        return _describe_object(part, root, seen)
    return ", ".join([_describe_type(part, root, seen), *_limits(part)])


def _describe_type(part: Mapping[str, Any], root: Mapping[str, Any], seen: frozenset[str]) -> str:
    kind = part.get("type", "anything")
    if kind == "array" and "items" in part:
        return f"a list, each of it {_describe(part['items'], root, seen)}"
    return " or ".join(_TYPES.get(one, one) for one in map(str, kind if isinstance(kind, list) else [kind]))


def _limits(part: Mapping[str, Any]) -> list[str]:
    """What narrows a type, such as "at least 1"."""
    return [words.format(part[key]) for key, words in _LIMITS.items() if key in part]


def _describe_object(part: Mapping[str, Any], root: Mapping[str, Any], seen: frozenset[str]) -> str:
    required = part.get("required") or ()
    fields = []
    for name, field in part["properties"].items():
        told = [_describe(field, root, seen), _about(field)]
        if name not in required:
            default = field.get("default") if isinstance(field, Mapping) else None
            told.append("may be left out" if default is None else f"{_json(default)} if left out")
        fields.append(f"{_json(name)} ({'; '.join(filter(None, told))})")
    return f"an object with {', '.join(fields)}" if fields else "an empty object"


def _about(part: Any) -> str:
    """What a part of a schema says it is for, in one line without a full stop at its end."""
    about = part.get("description") if isinstance(part, Mapping) else None
    return " ".join(about.split()).rstrip(".") if isinstance(about, str) else ""


def _resolve(reference: str, root: Mapping[str, Any]) -> Any:
    """The part of the schema that a `#/...` reference means; None, which is anything, where there is none."""
    part: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step:
            part = part.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(part, Mapping) else None
    return part


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
