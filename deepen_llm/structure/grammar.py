"""What a request asks an answer to look like, as a grammar of llguidance."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from deepen_llm.config import SamplingParams
from deepen_llm.errors import GrammarError
from deepen_llm.structure.formats import KNOWN_FORMATS, PATTERNS
from deepen_llm.structure.grammar_limits import check_limits
from deepen_llm.structure.schema_limits import LITERAL_KEYWORDS

JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON as `json.dumps` writes it: one way for each value, so that what is not content is forced and costs nothing."""

MAX_URL_CHARS = 2083
"""The `maxLength` that pydantic gives an address of the web, `HttpUrl`, and no other."""

_OPENING = ("additionalProperties", "patternProperties", "unevaluatedProperties", "minProperties", "propertyNames")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
"""Keywords whose values are schemas by name, whatever the names are."""


def build_grammar(params: SamplingParams, *, after_space: bool) -> str:
    """The grammar in llguidance's JSON notation.

    Args:
        params: They say what an answer looks like.
        after_space: One space comes first: the dummy space of a tokenizer, which is no part of the answer.

    Raises:
        GrammarError: A structure that is too large, or a JSON schema that is no JSON.
    """
    check_limits(params)
    first = ' " "' if after_space else ""
    return json.dumps(
        {"grammars": [{"name": "whole", "lark_grammar": f"start:{first} @answer"}, {"name": "answer", **_body(params)}]}
    )


def _body(params: SamplingParams) -> dict[str, Any]:
    """The answer's own grammar."""
    if params.json_schema is not None:
        return {"json_schema": {**narrow(params.json_schema), "x-guidance": _style(params.json_schema)}}
    if params.regex is not None:
        escaped = re.sub(r"\\.|/", lambda found: r"\/" if found[0] == "/" else found[0], params.regex, flags=re.DOTALL)
        return {"lark_grammar": f"start: /{escaped}/"}
    return {"lark_grammar": params.grammar}


def _style(schema: Mapping[str, Any]) -> dict[str, Any]:
    """How JSON of this schema is written: as here, but for what the schema says."""
    if not isinstance(style := schema.get("x-guidance", {}), Mapping):
        raise GrammarError(f"x-guidance of a JSON schema must be a mapping of llguidance's options; got {type(style)}")
    return {**JSON_STYLE, **style}


def narrow(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema for what a model should write, of which every value is valid under the schema as given.

    No properties but those that it names, where it leaves others open without saying so: a model could go on with
    properties of its own. Dates, addresses and the like that Python can read. Where an object is of several schemas at
    once, as by `allOf`, all stay open: closed each by itself they would exclude each other.
    """
    return _narrow_schema(schema, closes=not any(_num_joined(part) > 1 for part in _parts(schema)))


def _num_joined(schema: Mapping[str, Any]) -> int:
    """Of how many schemas at once a value of this one must be."""
    joined = schema.get("allOf")
    num_listed = len(joined) if isinstance(joined, list) else 0
    return num_listed + sum(key in schema for key in ("properties", "$ref", "anyOf", "oneOf"))


def _narrow_schema(schema: Mapping[str, Any], *, closes: bool) -> dict[str, Any]:
    narrowed = {key: _narrow_value(key, value, closes=closes) for key, value in schema.items()}
    if closes and _is_closable(schema):
        narrowed["additionalProperties"] = False
    if isinstance(schema.get("format"), str) and schema["format"] not in KNOWN_FORMATS:
        narrowed = _narrow_format(narrowed)
    return narrowed


def _narrow_format(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with the pattern of its format, where it has none of its own; any other format is an annotation."""
    is_of_web = schema["format"] == "uri" and schema.get("maxLength") == MAX_URL_CHARS
    pattern = None if "pattern" in schema else PATTERNS.get("http-url" if is_of_web else schema["format"])
    rest = {key: value for key, value in schema.items() if key != "format"}
    if pattern is None:
        return rest
    # What limits a length besides, as pydantic does for addresses, is met by every match.
    if rest.get("minLength") == 1:
        del rest["minLength"]
    if rest.get("maxLength") == MAX_URL_CHARS:
        del rest["maxLength"]
    return {"type": "string", **rest, "pattern": pattern}


def _is_closable(schema: Mapping[str, Any]) -> bool:
    """Whether a schema names properties, all that it requires among them, and does not say whether there are others."""
    names, required = schema.get("properties"), schema.get("required", ())
    if not isinstance(names, Mapping) or any(key in schema for key in _OPENING):
        return False
    return isinstance(required, (list, tuple)) and all(name in names for name in required)


def _narrow_value(key: str, value: Any, *, closes: bool) -> Any:
    """What stands after a keyword: a schema, several of them, schemas by name, or data."""
    if key in LITERAL_KEYWORDS:
        return value
    if isinstance(value, Mapping) and key in _NAMED:
        return {name: _narrow_value("", one, closes=closes) for name, one in value.items()}
    if isinstance(value, Mapping):
        return _narrow_schema(value, closes=closes)
    if key == "anyOf" and isinstance(value, list):
        value = [one for one in value if not _looks_around(one)] or value
    return [_narrow_value("", one, closes=closes) for one in value] if isinstance(value, list) else value


def _looks_around(schema: Any) -> bool:
    """Whether a pattern looks ahead or behind, which no grammar can follow: so pydantic writes a Decimal as text."""
    pattern = schema.get("pattern") if isinstance(schema, Mapping) else None
    return isinstance(pattern, str) and any(sign in pattern for sign in ("(?=", "(?!", "(?<=", "(?<!"))


def _parts(schema: Any) -> Iterator[Mapping[str, Any]]:
    """The schema and every mapping in it."""
    if isinstance(schema, Mapping):
        yield schema
    children = schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ()
    for child in children:
        yield from _parts(child)


def locate(schema: Mapping[str, Any], message: str) -> str:
    """Where in a schema the part is that an error message names, as a path from `$`; empty where none is found.

    It is a keyword in double quotes, or the value of a keyword, after the last colon or on a line of its own.
    """
    quoted = set(message.split('"')[1::2])
    values = {message.rpartition(": ")[2].strip(), *(line.strip() for line in message.splitlines())}
    for path, key, value in _entries(schema, "$"):
        if key in quoted or (key in ("type", "format", "pattern", "$ref") and str(value) in values):
            return path
    return ""


def _entries(schema: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """Every entry of every mapping, with the path of the mapping."""
    if isinstance(schema, Mapping):
        for key, value in schema.items():
            yield path, key, value
            yield from _entries(value, f"{path}.{key}")
    elif isinstance(schema, list):
        for place, value in enumerate(schema):
            yield from _entries(value, f"{path}[{place}]")
