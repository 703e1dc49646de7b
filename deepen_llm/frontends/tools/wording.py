"""A JSON schema in words: what models are told about an answer or about a tool's arguments.

Decoding keeps to the schema whatever a model knows of it; the words are for what the schema cannot force, the values.
They are shorter than the schema, and have its references resolved.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, final

MAX_REFERENCES = 200
"""So many `$ref` are told at full length; of those after them the type alone. A few that refer to each other, each
twice to the next, would make gigabytes."""

MAX_DEPTH = 50
"""So deep within each other parts are told."""

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
    return _describe(schema, _Place(schema))


@final
@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a schema a part is told."""

    root: Mapping[str, Any]
    seen: frozenset[str] = frozenset()
    """The references that it is within: what refers to itself is told once."""
    depth: int = 0
    references: Iterator[int] = field(default_factory=itertools.count)
    """Counts the references of the whole schema."""

    @property
    def inner(self) -> _Place:
        """The place of what is within the part."""
        return _Place(self.root, self.seen, self.depth + 1, self.references)

    def behind(self, reference: str) -> _Place:
        """The place of what a reference means."""
        return _Place(self.root, self.seen | {reference}, self.depth + 1, self.references)


def _describe(part: Any, place: _Place) -> str:
    if not isinstance(part, Mapping):
        return "anything"
    if "$ref" in part:
        return _describe_reference(str(part["$ref"]), place)
    if place.depth > MAX_DEPTH:
        return _name_type(part)
    if "const" in part:
        return _json(part["const"])
    if isinstance(part.get("enum"), list):
        return " or ".join(map(_json, part["enum"]))
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(part.get(key), list):
            words = [_describe(choice, place.inner) for choice in part[key]]
            return (" and " if key == "allOf" else " or ").join(dict.fromkeys(words))
    if isinstance(part.get("properties"), Mapping):
        return _describe_object(part, place)
    return ", ".join([_describe_type(part, place), *_limits(part)])


def _describe_reference(name: str, place: _Place) -> str:
    if name in place.seen:
        return "another of the same"
    part = _resolve(name, place.root)
    if isinstance(part, Mapping) and (place.depth > MAX_DEPTH or next(place.references) >= MAX_REFERENCES):
        return _name_type(part)
    return _describe(part, place.behind(name))


def _describe_type(part: Mapping[str, Any], place: _Place) -> str:
    if part.get("type") == "array" and "items" in part:
        return f"a list, each of it {_describe(part['items'], place.inner)}"
    return _name_type(part)


def _name_type(part: Mapping[str, Any]) -> str:
    kind = part.get("type", "anything")
    return " or ".join(_TYPES.get(one, one) for one in map(str, kind if isinstance(kind, list) else [kind]))


def _limits(part: Mapping[str, Any]) -> list[str]:
    """What narrows a type, such as "at least 1"."""
    return [words.format(part[key]) for key, words in _LIMITS.items() if key in part]


def _describe_object(part: Mapping[str, Any], place: _Place) -> str:
    required = part.get("required") or ()
    fields = []
    for name, inner in part["properties"].items():
        told = [_describe(inner, place.inner), _about(inner)]
        if name not in required:
            default = inner.get("default") if isinstance(inner, Mapping) else None
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
