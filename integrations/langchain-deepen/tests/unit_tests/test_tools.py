"""Tools: how they are described, chosen and told, what their grammars let through, and what is refused."""

import json

import llguidance
import pytest
from langchain_core.tools import tool
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from deepen_llm.errors import ConfigError, GrammarError
from langchain_deepen.tools import describe_tools, read_tools


@tool
def add(a: int, b: int = 0) -> int:
    """Add two numbers."""
    return a + b


@tool
def now() -> str:
    """Tell the time."""
    return "noon"


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


ADD = '{"name": "add", "arguments": {"a": 1}}'
NOW = '{"name": "now", "arguments": {}}'


def read(*tools, choice=None, is_parallel=False, strict=None):
    return read_tools(describe_tools(tools, strict=strict), choice, is_parallel=is_parallel)


def lets_through(grammar, text):
    """Whether the text is an answer of the grammar."""
    matcher = llguidance.LLMatcher(llguidance.LLTokenizer("byte"), grammar)
    data = text.encode()
    return matcher.try_consume_tokens(list(data)) == len(data) and matcher.is_accepting()


def test_tools_of_every_kind_are_described():
    schema = {"title": "place", "description": "A place.", "type": "object", "properties": {"at": {"type": "string"}}}
    described = describe_tools([add, plain, Person, City, schema])
    assert [one["function"]["name"] for one in described] == ["add", "plain", "Person", "City", "place"]
    assert describe_tools(described) == described


@pytest.mark.parametrize("choice", [None, "auto", False])
def test_a_free_choice_lets_calls_and_text_through(choice):
    tools = read(add, now, choice=choice)
    assert not tools.is_forced
    for text in (ADD, NOW, "Hello {there}", " {", "\n"):
        assert lets_through(tools.grammar(), text), text
    for text in ("", "{", '{"a": 1}', ADD + "\n" + NOW, ADD + " ", '{"name": "add", "arguments": {}}'):
        assert not lets_through(tools.grammar(), text), text


@pytest.mark.parametrize("choice", ["any", "required", True])
def test_a_forced_choice_lets_calls_alone_through(choice):
    tools = read(add, now, choice=choice)
    assert tools.is_forced
    assert lets_through(tools.grammar(), ADD)
    assert lets_through(tools.grammar(), NOW)
    assert not lets_through(tools.grammar(), "Hello")


@pytest.mark.parametrize(
    "choice", ["now", {"type": "function", "function": {"name": "now"}}, {"type": "tool", "name": "now"}]
)
def test_a_named_tool_is_the_only_one(choice):
    tools = read(add, now, choice=choice)
    assert lets_through(tools.grammar(), NOW)
    assert not lets_through(tools.grammar(), ADD)
    assert "add" not in tools.words


def test_no_tool_may_be_called_where_the_choice_is_none():
    assert read(add, choice="none") is None


def test_parallel_calls_are_lines():
    tools = read(add, now, choice="any", is_parallel=True)
    assert lets_through(tools.grammar(), ADD + "\n" + NOW)
    assert not lets_through(tools.grammar(), ADD + "\n")
    assert "on a line each" in tools.words


def test_a_call_gives_no_arguments_that_a_tool_does_not_have():
    assert not lets_through(read(now).grammar(), '{"name": "now", "arguments": {"x": 1}}')


def test_strict_makes_every_argument_required():
    assert not lets_through(read(add, strict=True).grammar(), ADD)
    assert lets_through(read(add, strict=True).grammar(), '{"name": "add", "arguments": {"a": 1, "b": 2}}')


def test_references_are_those_of_each_tool_alone():
    schemas = [
        {
            "type": "function",
            "function": {
                "name": name,
                "parameters": {
                    "type": "object",
                    "properties": {"x": {"$ref": "#/$defs/X"}},
                    "required": ["x"],
                    "$defs": {"X": {"type": kind}},
                },
            },
        }
        for name, kind in (("one", "integer"), ("two", "boolean"))
    ]
    grammar = read(*schemas).grammar()
    assert lets_through(grammar, '{"name": "one", "arguments": {"x": 1}}')
    assert lets_through(grammar, '{"name": "two", "arguments": {"x": true}}')
    assert not lets_through(grammar, '{"name": "one", "arguments": {"x": true}}')


def test_names_that_need_quoting_are_quoted():
    described = {"type": "function", "function": {"name": 'sü"ß\\', "parameters": {"type": "object"}}}
    call = '{"name": ' + json.dumps('sü"ß\\', ensure_ascii=False) + ', "arguments": {}}'
    assert lets_through(read(described).grammar(), call)


def test_nothing_follows_a_stop_string_in_a_text():
    grammar = read(add).grammar(["\nObs", "(a|b)/"])
    for text in ("Hello", "Hello\nObs", "Hello (a|b)/", "Hello a/ b", ADD):
        assert lets_through(grammar, text), text
    for text in ("Hello\nObs.", "Hello (a|b)/ "):
        assert not lets_through(grammar, text), text


@pytest.mark.parametrize("stop", [" is", "\r\n\t", "#&~-]}", '\\d"', "日é", "</s>", "\u2028", "\U0001f600"])
def test_every_stop_string_can_be_written(stop):
    grammar = read(add).grammar([stop])
    assert lets_through(grammar, "Hello" + stop)
    assert not lets_through(grammar, "Hello" + stop + ".")
    assert lets_through(grammar, "Hello" + stop[:-1])


def test_the_words_name_the_tools_their_arguments_and_the_form_of_a_call():
    words = read(add, now).words
    assert '{"name": "now", "description": "Tell the time."' in words
    assert '"a": {"type": "integer"}' in words
    assert '{"name": ..., "arguments": {...}}' in words
    assert "title" not in words
    assert "Otherwise answer in words." in words
    assert "Otherwise" not in read(add, choice="any").words


def test_an_argument_called_title_is_told():
    described = {
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object", "properties": {"title": {"type": "string"}}}},
    }
    assert '"title": {"type": "string"}' in read(described).words


def test_a_choice_that_names_no_tool_is_refused():
    with pytest.raises(ConfigError, match=r"tool_choice must name a tool, .*; got 'sub': the tools are add, now"):
        read(add, now, choice="sub")
    with pytest.raises(ConfigError, match=r'tool_choice must hold \{"function": \{"name": ...\}\}; got'):
        read(add, choice={"type": "function"})


def test_tools_of_one_name_are_refused():
    other = {"title": "add", "description": "Add to a basket.", "type": "object", "properties": {}}
    with pytest.raises(ConfigError, match=r"tools must have names of their own; got two of the name 'add': .*basket"):
        read(add, now, other)


def test_a_tool_that_is_given_twice_counts_once():
    assert [one.name for one in read(Person, now, Person.model_json_schema()).tools] == ["Person", "now"]


def test_no_tools_are_refused():
    with pytest.raises(ConfigError, match="tools must hold at least one tool; got none"):
        read()


def test_what_is_no_tool_is_refused():
    with pytest.raises(ConfigError, match="tool 1 must have a name and a schema; got 3"):
        describe_tools([add, 3])
    with pytest.raises(ConfigError, match="a tool must be"):
        read_tools([{"name": "add"}], None, is_parallel=False)


def test_a_schema_that_cannot_be_decoded_is_refused_with_the_tools_name():
    schema = {"title": "odd", "type": "object", "properties": {"x": {"not": {"type": "string"}}}}
    with pytest.raises(GrammarError, match=r"the arguments of tool 'odd' cannot be decoded by their schema: .*not"):
        describe_tools([add, schema])
