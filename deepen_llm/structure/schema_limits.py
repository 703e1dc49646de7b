"""How large a JSON schema may be, and that it is JSON at all: found out before anything goes through it in depth."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from deepen_llm.errors import GrammarError
from deepen_llm.structure.pattern_limits import MAX_LITERAL, check_pattern

MAX_CHARS = 500_000
"""Characters of a JSON schema, written as JSON, or of a grammar."""
MAX_DEPTH = 100
"""Levels of a JSON schema."""
MAX_VALUES = 50_000
"""Values in a JSON schema, keywords and their contents."""
MAX_REFERENCES = 1000
"""Different `$ref` of a JSON schema."""
MAX_PROPERTIES = 1000
"""Properties of one object."""
MAX_PATTERN_PROPERTIES = 50
"""`patternProperties` of one object: each is compared with each other."""
MAX_MULTIPLE = 20_000
"""The least common multiple of all that is under `multipleOf`, decimal points left out: so many states of a lexer."""
MAX_SHOWN = 80
"""So many characters of a place or a value stand in a message."""

LITERAL_KEYWORDS = ("enum", "const", "default", "examples", "example")
"""Keywords whose values are data, whatever they look like."""


def check_schema(schema: Mapping[str, Any]) -> None:
    """Refuse a JSON schema that is no JSON or too large. Nothing here recurses: it may be as deep as it likes.

    Raises:
        GrammarError: See above; the message names the place, as a path from `$`.
    """
    references, multiple, num_chars = set[str](), 1, 0
    for num_values, (path, value, is_data) in enumerate(_walk(schema)):
        _demand(num_values < MAX_VALUES, path, f"a JSON schema holds at most {MAX_VALUES:,} values")
        num_chars += len(value) if isinstance(value, str) else 8
        _demand(num_chars <= MAX_CHARS, path, f"a JSON schema has at most {MAX_CHARS:,} characters")
        if isinstance(value, Mapping) and not is_data:
            _check_keywords(path, value)
            references |= {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            multiple = math.lcm(multiple, _digits(value.get("multipleOf")))
            _demand(multiple <= MAX_MULTIPLE, path, f"multipleOf must have no common multiple above {MAX_MULTIPLE:,}")
    _demand(len(references) <= MAX_REFERENCES, "$", f"a JSON schema has at most {MAX_REFERENCES:,} different $ref")


def _walk(schema: Any) -> Iterator[tuple[str, Any, bool]]:
    """The place and value of everything in a schema, itself first, and whether it is data.

    A dictionary that holds itself is one that is too deep.
    """
    waiting: list[tuple[str, Any, int, bool]] = [("$", schema, 0, False)]
    while waiting:
        path, value, depth, is_data = waiting.pop()
        _demand(depth <= MAX_DEPTH, path, f"a JSON schema is at most {MAX_DEPTH} levels deep, and does not hold itself")
        _check_value(path, value)
        yield path, value, is_data
        if isinstance(value, dict):
            for key, part in value.items():
                _demand(isinstance(key, str), path, f"the keys of a JSON schema must be strings; got {_show(key)}")
                _check_text(path, key)
                waiting.append((_join(path, f".{key}"), part, depth + 1, is_data or key in LITERAL_KEYWORDS))
        elif isinstance(value, (list, tuple)):
            waiting += [(_join(path, f"[{place}]"), part, depth + 1, is_data) for place, part in enumerate(value)]


def _check_value(path: str, value: Any) -> None:
    """Refuse what JSON cannot write."""
    is_known = value is None or isinstance(value, (str, int, float, dict, list, tuple))
    _demand(is_known, path, f"a JSON schema holds nothing but JSON values; got {_show(value)}: write it as JSON")
    if isinstance(value, str):
        _check_text(path, value)
    elif isinstance(value, (int, float)):
        _demand(-(2**63) <= value < 2**64 or isinstance(value, float), path, "integers of a JSON schema have 64 bits")
        _demand(math.isfinite(value), path, f"numbers of a JSON schema are finite; got {value}")


def _check_text(path: str, text: str) -> None:
    _demand(len(text) <= MAX_LITERAL, path, f"a text in a JSON schema has at most {MAX_LITERAL:,} characters")
    is_whole = text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)
    _demand(is_whole, path, f"a text in a JSON schema must be Unicode without surrogates; got {_show(text)}")


def _check_keywords(path: str, schema: Mapping[str, Any]) -> None:
    """Refuse what takes llguidance long in one schema."""
    patterns, properties = schema.get("patternProperties"), schema.get("properties")
    for pattern in (schema.get("pattern"), *(patterns if isinstance(patterns, dict) else ())):
        if isinstance(pattern, str):
            check_pattern(pattern, f"a pattern at {_shorten(path)}")
    is_many = isinstance(patterns, dict) and len(patterns) > MAX_PATTERN_PROPERTIES
    _demand(not is_many, path, f"there are at most {MAX_PATTERN_PROPERTIES} patternProperties")
    is_many = isinstance(properties, dict) and len(properties) > MAX_PROPERTIES
    _demand(not is_many, path, f"an object has at most {MAX_PROPERTIES:,} properties")


def _digits(multiple: Any) -> int:
    """What is under `multipleOf` without its decimal point, 25 for 0.25; 1 for what is no such number."""
    if isinstance(multiple, bool) or not isinstance(multiple, (int, float)) or not 0 < multiple < math.inf:
        return 1
    digits, exponent = Decimal(str(multiple)).as_tuple()[1:]
    return int(Decimal((0, digits, max(int(exponent), 0))))


def _demand(is_so: bool, path: str, demand: str) -> None:
    if not is_so:
        raise GrammarError(f"{demand}; look at {_shorten(path)}")


def _show(value: Any) -> str:
    """What came, cut: of something foreign, its type alone, because its own words may be anything."""
    if isinstance(value, str):
        return repr(value[:MAX_SHOWN])
    return f"something of {type(value)!r}"


def _join(path: str, step: str) -> str:
    """A path that is kept short: there may be many, and deep."""
    return _shorten(path) + step[:MAX_SHOWN]


def _shorten(text: str) -> str:
    """A text without surrogates, cut in its middle."""
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= 2 * MAX_SHOWN else f"{text[:MAX_SHOWN]}...{text[-MAX_SHOWN:]}"
