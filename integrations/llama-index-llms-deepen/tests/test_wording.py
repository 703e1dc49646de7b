"""Schemas in words: short, whole, and finite for schemas that refer to themselves."""

from __future__ import annotations

from enum import Enum
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from llama_index.llms.deepen.wording import ask_for, describe


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
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "null"}}}, "null"),
    ],
)
def test_every_kind_of_schema_has_words(schema, words):
    assert describe(schema) == words
