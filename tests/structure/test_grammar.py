"""From a request to a grammar: what a model may write is always what was asked for."""

from __future__ import annotations

import json
from datetime import date, datetime, time

import llguidance
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter

from deepen_llm.config import SamplingParams
from deepen_llm.errors import GrammarError
from deepen_llm.structure.completion import ByteTokenizer
from deepen_llm.structure.formats import PATTERNS
from deepen_llm.structure.grammar import build_grammar, locate, narrow

BYTES = ByteTokenizer.load()


def takes(text: str | bytes, *, after_space: bool = False, **structure) -> bool:
    """Whether a text is one of the structure, as a whole."""
    grammar = build_grammar(SamplingParams(**structure), after_space=after_space)
    matcher = llguidance.LLMatcher(BYTES, grammar)
    assert not matcher.is_error(), matcher.get_error()
    raw = text.encode() if isinstance(text, str) else text
    return matcher.try_consume_tokens(list(raw)) == len(raw) and matcher.is_accepting()


class Person(BaseModel):
    name: str
    age: int


def test_a_pydantic_model_stands_for_its_schema():
    assert takes('{"name": "Ada", "age": 36}', json_schema=Person)
    assert not takes('{"name": "Ada", "age": "old"}', json_schema=Person)


def test_json_is_written_in_one_way_only():
    assert not takes('{"name":"Ada","age":36}', json_schema=Person)
    assert not takes('{\n"name": "Ada", "age": 36}', json_schema=Person)


def test_a_schema_may_ask_for_another_style_itself():
    compact = {**Person.model_json_schema(), "x-guidance": {"item_separator": ",", "key_separator": ":"}}
    assert takes('{"name":"Ada","age":36}', json_schema=compact)


@pytest.mark.parametrize(("regex", "text"), [(r"[a-z]+/[a-z]+", "a/b"), (r"a\/b", "a/b"), (r"(x|y){2}", "xy")])
def test_a_regular_expression_matches_the_whole_answer(regex, text):
    assert takes(text, regex=regex)
    assert not takes(text + "!", regex=regex)


def test_a_grammar_of_the_users_own_may_hold_a_schema():
    grammar = 'start: "call " call\ncall: %json {"type": "integer"}'
    assert takes("call 12", grammar=grammar)
    assert not takes("12", grammar=grammar)


@pytest.mark.parametrize("structure", [{"regex": " ?x"}, {"grammar": 'start: " "? "x"'}])
def test_a_dummy_space_comes_before_the_answer_and_is_no_part_of_it(structure):
    assert takes(" x", after_space=True, **structure)
    assert takes("  x", after_space=True, **structure)
    assert not takes("x", after_space=True, **structure)


def test_objects_take_no_properties_but_those_they_name():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert narrow(schema)["additionalProperties"] is False
    assert takes('{"a": 1}', json_schema=schema)
    assert not takes('{"a": 1, "b": 2}', json_schema=schema)


@pytest.mark.parametrize(
    "opening",
    [
        {"additionalProperties": {"type": "integer"}},
        {"patternProperties": {"^b": {"type": "integer"}}},
        {"required": ["b"]},
    ],
)
def test_objects_that_say_they_are_open_stay_open(opening):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, **opening}
    assert takes('{"a": 1, "b": 2}', json_schema=schema)


def test_schemas_joined_by_all_of_do_not_exclude_each_other():
    parts = [{"type": "object", "properties": {name: {"type": "integer"}}, "required": [name]} for name in "ab"]
    assert takes('{"a": 1, "b": 2}', json_schema={"allOf": parts})


A = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
B = {"properties": {"b": {"type": "integer"}}, "required": ["b"]}


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {"A": A}, "allOf": [{"$ref": "#/$defs/A"}], **B},
        {"$defs": {"A": A}, "$ref": "#/$defs/A", **B},
        {**A, "anyOf": [B, {"properties": {"c": {"type": "integer"}}, "required": ["c"]}]},
    ],
)
def test_objects_of_several_schemas_at_once_stay_open(schema):
    assert takes('{"a": 1, "b": 2}', json_schema=schema) or takes('{"b": 2, "a": 1}', json_schema=schema)


def test_one_reference_alone_is_closed():
    schema = {"$defs": {"A": A}, "properties": {"x": {"allOf": [{"$ref": "#/$defs/A"}], "default": None}}}
    assert not takes('{"x": {"a": 1, "z": 2}}', json_schema=schema)


def test_a_date_that_may_be_null_may_be_null():
    schema = {"type": ["string", "null"], "format": "date"}
    assert takes("null", json_schema=schema) and takes('"2024-01-31"', json_schema=schema)
    assert not takes('"soon"', json_schema=schema)


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"enum": [{1, 2}]}, "nothing but JSON values.*set"),
        ({"maximum": float("nan")}, "numbers of a JSON schema are finite; got nan; look at .*maximum"),
        ({"x-guidance": None}, "x-guidance of a JSON schema must be a mapping.*NoneType"),
    ],
)
def test_a_schema_that_is_no_json_is_refused(schema, named):
    with pytest.raises(GrammarError, match=named):
        build_grammar(SamplingParams(json_schema=schema), after_space=False)


def test_names_that_look_like_keywords_are_names():
    inner = {"type": "object", "properties": {"x": {"type": "integer"}}}
    schema = {"type": "object", "properties": {"properties": inner, "format": inner, "default": inner}}
    narrowed = narrow(schema)["properties"]
    assert set(narrowed) == {"properties", "format", "default"}
    assert all(one["additionalProperties"] is False for one in narrowed.values())


def test_data_in_a_schema_is_left_as_it_is():
    data = {"type": "object", "properties": {"x": 1}}
    assert narrow({"enum": [data], "default": data, "const": data}) == {"enum": [data], "default": data, "const": data}


@pytest.mark.parametrize(
    ("format_", "right", "wrong"),
    [
        ("date", "2024-02-29", "2023-02-29"),
        ("date", "1999-12-31", "0000-01-01"),
        ("time", "23:59:59Z", "23:59:60Z"),
        ("date-time", "2024-05-06T07:08:09.123+02:00", "2024-13-06T07:08:09Z"),
    ],
)
def test_dates_and_times_are_such_as_python_reads(format_, right, wrong):
    schema = {"type": "string", "format": format_}
    assert takes(json.dumps(right), json_schema=schema)
    assert not takes(json.dumps(wrong), json_schema=schema)


@given(st.data())
def test_whatever_matches_a_format_python_reads(data):
    kind, type_ = data.draw(st.sampled_from([("date", date), ("time", time), ("date-time", datetime)]))
    text = data.draw(st.from_regex(PATTERNS[kind].replace("$", r"\Z"), fullmatch=True))
    assert isinstance(TypeAdapter(type_).validate_python(text), type_)


def test_a_message_is_traced_to_its_place_in_the_schema():
    schema = {"properties": {"tags": {"items": [{"uniqueItems": True}]}}}
    assert locate(schema, 'Unimplemented keys: ["uniqueItems"]') == "$.properties.tags.items[0]"
    assert locate(schema, "Unsatisfiable") == ""
    values = {"properties": {"a": {"type": "objekt"}, "b": {"format": "foo"}, "c": {"pattern": "(?=x)"}}}
    assert locate(values, "Invalid type: objekt") == "$.properties.a"
    assert locate(values, "Unknown format: foo") == "$.properties.b"
    assert locate(values, "regex parse error:\n    (?=x)\n    ^^^\nerror: not supported") == "$.properties.c"
