"""How large a JSON schema may be, and that it is JSON at all."""

from __future__ import annotations

import math

import pytest

from deepen_llm import SamplingParams
from deepen_llm.errors import ConfigError, GrammarError
from deepen_llm.structure.schema_limits import check_schema


def deep(levels: int) -> dict:
    schema: dict = {"type": "string"}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


def holding_itself() -> dict:
    schema: dict = {"type": "object", "properties": {}}
    schema["properties"]["a"] = schema
    return schema


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (deep(500), r"at most 100 levels deep, and does not hold itself; look at \$\.items\.items"),
        (deep(100_000), "at most 100 levels deep"),
        (holding_itself(), "at most 100 levels deep, and does not hold itself"),
        ({"properties": {3: {}}}, r"the keys of a JSON schema must be strings; .*'int'.*; look at \$\.properties"),
        ({"properties": {("a",): {}}}, "the keys of a JSON schema must be strings"),
        ({"minimum": math.nan}, r"numbers of a JSON schema are finite; got nan; look at \$\.minimum"),
        ({"enum": [1, math.inf]}, r"finite; got inf; look at \$\.enum\[1\]"),
        ({"const": "\ud800"}, r"Unicode without surrogates; got .*; look at \$\.const"),
        ({"properties": {"\udfff": {}}}, "Unicode without surrogates"),
        ({"enum": [b"x"]}, r"nothing but JSON values; got something of <class 'bytes'>: .*; look at \$\.enum\[0\]"),
        ({"enum": {1, 2}}, "nothing but JSON values; .*'set'"),
        ({"minItems": 2**70}, "integers of a JSON schema have 64 bits"),
        ({"enum": list(range(60_000))}, "at most 50,000 values"),
        ({"enum": ["x" * 19_000] * 30}, "at most 500,000 characters"),
        ({"const": "x" * 20_001}, "at most 20,000 characters"),
        ({"pattern": "a{20000}"}, r"a pattern at \$ repeats a part at most 10,000 times"),
        ({"properties": {f"p{n}": {} for n in range(1001)}}, "at most 1,000 properties"),
        ({"patternProperties": {f"p{n}": {} for n in range(51)}}, "at most 50 patternProperties"),
        ({"anyOf": [{"$ref": f"#/{n}"} for n in range(1001)]}, r"at most 1,000 different \$ref"),
        ({"anyOf": [{"multipleOf": n} for n in (0.97, 89, 83)]}, "no common multiple above 20,000"),
    ],
)
def test_what_is_no_json_or_too_large_is_refused_with_its_place(schema, message):
    with pytest.raises(GrammarError, match=message) as caught:
        check_schema(schema)
    assert len(str(caught.value)) < 600 and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "schema", [deep(500), holding_itself(), {"properties": {3: {}}}, {"minimum": math.nan}, 3, [], "x"]
)
def test_a_request_with_such_a_schema_is_refused_by_an_own_error(schema):
    from deepen_llm.structure import check_structure

    with pytest.raises(ConfigError):
        check_structure(SamplingParams(json_schema=schema))


@pytest.mark.parametrize(
    "schema",
    [
        {},
        deep(90),
        {"enum": [None, True, 1, 2.5, "é", {"a": []}]},
        {"const": {"pattern": "a{20000}", "properties": {f"p{n}": 1 for n in range(2000)}}},
        {"multipleOf": 0.01},
    ],
)
def test_what_is_json_and_small_passes(schema):
    check_schema(schema)
