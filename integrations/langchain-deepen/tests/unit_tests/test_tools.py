"""Tools of every kind in the form that the ensemble reads, and what is no tool."""

from decimal import Decimal
from pathlib import Path

import pytest
from langchain_core.tools import tool
from pydantic import BaseModel, Field, HttpUrl
from typing_extensions import TypedDict

from deepen_llm.errors import ConfigError, GrammarError
from deepen_llm.frontends.tools import read_tools
from langchain_deepen.tools import describe_tools


@tool
def add(a: int, b: int = 0) -> int:
    """Add two numbers."""
    return a + b


class Person(BaseModel):
    """A person."""

    name: str
    age: int = Field(gt=0)


class City(TypedDict):
    """A city."""

    name: str


def plain(a: int) -> int:
    """Do nothing."""
    return a


def test_tools_of_every_kind_are_described():
    schema = {"title": "place", "description": "A place.", "type": "object", "properties": {"at": {"type": "string"}}}
    described = describe_tools([add, plain, Person, City, schema])
    assert [one["function"]["name"] for one in described] == ["add", "plain", "Person", "City", "place"]
    assert describe_tools(described) == described
    assert [one.name for one in read_tools(described).tools] == ["add", "plain", "Person", "City", "place"]


def test_strict_makes_every_argument_required():
    (loose,), (strict,) = describe_tools([add]), describe_tools([add], strict=True)
    assert loose["function"]["parameters"]["required"] == ["a"]
    assert strict["function"]["parameters"]["required"] == ["a", "b"]


def test_a_class_and_its_schema_are_one_tool():
    assert len(read_tools(describe_tools([Person, Person.model_json_schema()])).tools) == 1


def test_no_tools_are_refused():
    with pytest.raises(ConfigError, match="tools must hold at least one tool; got none"):
        describe_tools([])


def test_what_is_no_tool_is_refused():
    with pytest.raises(ConfigError, match="tool 1 must have a name and a schema; got 3"):
        describe_tools([add, 3])


def test_what_cannot_be_decoded_is_refused_by_who_reads_it_and_not_twice():
    schema = {"title": "odd", "type": "object", "properties": {"x": {"not": {"type": "string"}}}}
    described = describe_tools([add, schema])
    with pytest.raises(GrammarError, match=r"the arguments of tool 'odd' cannot be decoded: .*not"):
        read_tools(described)


@tool
def buy(file: Path, price: Decimal, page: HttpUrl) -> str:
    """Buy what a file lists."""
    return f"{file} {price} {page}"


@pytest.mark.parametrize("source", [buy, buy.func])
def test_arguments_are_no_wider_than_what_their_classes_read(source):
    (described,) = describe_tools([source])
    arguments = described["function"]["parameters"]["properties"]
    assert arguments["price"]["type"] == "number"
    assert (arguments["file"]["format"], arguments["page"]["format"]) == ("path", "http-url")
    assert described["function"]["description"] == "Buy what a file lists."
    binary = {"type": "object", "properties": {"data": {"type": "string", "format": "binary"}}}
    function = {"type": "function", "function": {"name": "send", "parameters": binary}}
    assert [one.name for one in read_tools(describe_tools([source, function])).tools] == ["buy", "send"]
