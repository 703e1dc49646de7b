"""Schemas in words: short, whole, and finite for schemas that refer to themselves."""

from __future__ import annotations

from enum import Enum
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from deepen_llm.errors import GrammarError
from deepen_llm.frontends.tools import ask_for, describe


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Lamp(BaseModel):
    owner: str = Field(description="Who has\n  it.")
    colour: Colour
    watts: float | None
    parts: list[str]
    number: int
    is_lit: bool
    kind: Literal["oil"]


class Tree(BaseModel):
    label: str
    branches: list[Tree]


def test_each_field_is_told_with_its_kind_and_what_it_is_for():
    assert ask_for(Lamp.model_json_schema()) == (
        'Answer with JSON only: an object with "owner" (text; Who has it), "colour" ("red" or "green"), '
        '"watts" (a number or null), "parts" (a list, each of it text), "number" (a whole number), '
        '"is_lit" (true or false), "kind" ("oil").'
    )


def test_a_schema_that_refers_to_itself_is_told_once():
    words = 'an object with "label" (text), "branches" (a list, each of it another of the same)'
    assert describe(Tree.model_json_schema()) == words


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({}, "anything"),
        (True, "anything"),
        ({"type": "object"}, "an object"),
        ({"type": "object", "properties": {}}, "an empty object"),
        ({"type": "array"}, "a list"),
        ({"type": ["string", "null"]}, "text or null"),
        ({"enum": [1, "ü"]}, '1 or "ü"'),
        ({"allOf": [{"type": "string"}, {"enum": ["a"]}]}, 'text and "a"'),
        ({"oneOf": [{"type": "string"}, {"type": "string"}]}, "text"),
        ({"$ref": "#/$defs/missing"}, "anything"),
        ({"type": "integer", "minimum": 1, "exclusiveMaximum": 9}, "a whole number, at least 1, below 9"),
        ({"type": "string", "pattern": "^a$", "maxLength": 3}, "text, length at most 3, matching ^a$"),
        ({"type": "string", "format": "date"}, "text, in the format date"),
        ({"type": "array", "items": {}, "minItems": 2}, "a list, each of it anything, at least 2 of them"),
        ({"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 1}]}, "null or a whole number, at least 1"),
        ({"enum": 3, "anyOf": 3, "properties": 3}, "anything"),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "null"}}}, "null"),
    ],
)
def test_every_kind_of_schema_has_words(schema, words):
    assert describe(schema) == words


def test_what_may_be_left_out_is_told_with_what_it_is_then():
    class Loose(BaseModel):
        size: int = 1
        owner: str | None = None
        name: str

    words = '"size" (a whole number; 1 if left out), "owner" (text or null; may be left out), "name" (text)'
    assert describe(Loose.model_json_schema()) == f"an object with {words}"


def test_what_a_schema_says_of_itself_comes_behind_the_request():
    schema = {"type": "object", "description": "A\nlamp."}
    assert ask_for(schema) == "Answer with JSON only: an object. About it: A lamp."
    assert ask_for({"type": "object"}) == "Answer with JSON only: an object."


def test_a_reference_to_the_whole_schema_is_told_once():
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert describe(schema).count("another of the same") == 1


def test_what_is_mentioned_again_and_again_is_told_once_at_length():
    defs = {"d0": {"type": "integer"}}
    for n in range(1, 40):
        defs[f"d{n}"] = {"type": "object", "properties": {key: {"$ref": f"#/$defs/d{n - 1}"} for key in "ab"}}
    words = describe({"$defs": defs, "$ref": "#/$defs/d39"})
    assert len(words) < 20_000 and "an object as above" in words


def test_a_chain_of_references_is_told_as_far_as_it_can_be_read():
    defs = {f"d{n}": {"type": "array", "items": {"$ref": f"#/$defs/d{n + 1}"}} for n in range(900)}
    words = describe({"$defs": defs, "$ref": "#/$defs/d0"})
    assert words.startswith("a list, each of it a list, each of it ") and words.endswith("a list") and len(words) < 2000


def test_a_schema_that_holds_itself_is_refused_before_it_is_told():
    schema: dict = {"type": "object", "properties": {}}
    schema["properties"] = {"a": schema, "b": schema}
    with pytest.raises(GrammarError, match="at most 100 levels deep, and does not hold itself"):
        ask_for(schema)
