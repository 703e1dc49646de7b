"""One tool: what is read of it, what is told about it, and what is refused."""

import pytest

from deepen_llm.errors import ConfigError, GrammarError
from deepen_llm.frontends.tools import Tool, read_tool

ADD = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def describe(parameters, **about):
    return {"type": "function", "function": {"name": "add", "parameters": parameters, **about}}


def test_a_tool_is_read_and_told_in_two_lines():
    tool = read_tool(describe(ADD, description="Adds two\n  numbers."))
    assert tool == Tool("add", "Adds two\n  numbers.", ADD)
    assert tool.words == '"add": Adds two numbers.\nArguments: an object with "a" (a whole number).'
    assert read_tool(describe(ADD)).words.startswith('"add"\nArguments: ')


@pytest.mark.parametrize("parameters", [None, {}])
def test_a_tool_without_parameters_takes_no_arguments(parameters):
    tool = read_tool(describe(parameters))
    assert tool.parameters == {"type": "object", "properties": {}}
    assert tool.words.endswith("Arguments: an empty object.")


def test_arguments_are_an_object_where_the_schema_does_not_say_so():
    assert read_tool(describe({"properties": {"a": {"type": "integer"}}})).parameters["type"] == "object"


@pytest.mark.parametrize("parameters", [{"type": "array"}, {"type": ["object", "null"]}, "text", [1]])
def test_arguments_that_are_no_object_are_refused(parameters):
    with pytest.raises(ConfigError, match="the arguments of tool 'add' must be an object's JSON schema; got"):
        read_tool(describe(parameters))


@pytest.mark.parametrize("described", [3, "add", {}, {"name": "add"}, {"function": {"name": ""}}, {"function": "add"}])
def test_what_is_no_tool_is_refused(described):
    with pytest.raises(ConfigError, match=r'a tool must be \{"type": "function", .*; got'):
        read_tool(described)


def test_what_cannot_be_written_as_json_is_refused():
    with pytest.raises(ConfigError, match=r"a tool must be .*; got <function describe at"):
        read_tool(describe)


@pytest.mark.parametrize("schema", [{"not": {"type": "string"}}, {"type": 5}])
def test_a_schema_that_cannot_be_decoded_is_refused_with_the_tool_and_the_part(schema):
    parameters = {"type": "object", "properties": {"x": schema}}
    with pytest.raises(GrammarError, match=r"the arguments of tool 'add' cannot be decoded: the JSON schema .*: "):
        read_tool(describe(parameters))
    with pytest.raises(GrammarError, match=r"at \$\.properties\.x: it does not know \"not\""):
        read_tool(describe({"type": "object", "properties": {"x": {"not": {}}}}))


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ({"title": "add", **ADD}, {"title": "sum", **ADD}, True),
        ({**ADD, "properties": {"a": {"type": "integer", "title": "A"}}}, ADD, True),
        ({"anyOf": [{"title": "A", "type": "object"}]}, {"anyOf": [{"type": "object"}]}, True),
        ({"properties": {"title": {"type": "string"}}}, {"properties": {}}, False),
        ({"properties": {"a": {"const": {"title": 1}}}}, {"properties": {"a": {"const": {"title": 2}}}}, False),
        ({"properties": {"enum": {"title": "A", "type": "null"}}}, {"properties": {"enum": {"type": "null"}}}, True),
        ({"additionalProperties": False, **ADD}, ADD, False),
    ],
)
def test_two_tools_are_the_same_but_for_the_titles_in_their_schemas(one, other, is_same):
    assert Tool("f", "", one).is_same(Tool("f", "", other)) == is_same
    assert not Tool("f", "", one).is_same(Tool("f", "Adds.", one))


def holding_itself():
    tool = describe(dict(ADD))
    tool["function"]["parameters"]["properties"] = {"again": tool}
    return tool


def deep(levels):
    schema = {"type": "string"}
    for _ in range(levels):
        schema = {"items": schema}
    return describe({"type": "object", "properties": {"x": schema}})


@pytest.mark.parametrize(
    "described", [holding_itself(), deep(500), deep(100_000), describe({**ADD, "default": "x" * 10**6})]
)
def test_a_tool_that_holds_itself_or_is_too_large_is_an_own_error_of_readable_length(described):
    with pytest.raises(ConfigError) as caught:
        read_tool(described)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "format": "path"},
        {"type": "string", "format": "binary"},
        {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"}]},
        {"type": "string", "format": "uri"},
    ],
)
def test_an_argument_of_any_format_is_one_that_can_be_called(schema):
    assert read_tool(describe({"type": "object", "properties": {"x": schema}})).name == "add"
