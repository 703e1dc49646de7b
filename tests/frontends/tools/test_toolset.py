"""The tools of one request: what their grammar lets through, what the models are told, and what is refused."""

import json

import llguidance
import pytest

from deepen_llm import SamplingParams
from deepen_llm.errors import ConfigError
from deepen_llm.frontends.tools import read_tools, write_call
from deepen_llm.structure.completion import ByteTokenizer

BYTES = ByteTokenizer.load()
NOW_CALL = '{"name": "now", "arguments": {}}'
ADD_CALL = '{"name": "add", "arguments": {"a": 1}}'


def describe(name, parameters=None, description=""):
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


NUMBERS = {"a": {"type": "integer"}, "b": {"type": "integer", "default": 0}}
ADD = describe("add", {"type": "object", "properties": NUMBERS, "required": ["a"]}, "Add two numbers.")
NOW = describe("now", description="Tell the time.")


def takes(tools, text, stop=()):
    """Whether the text is an answer of the grammar."""
    matcher = llguidance.LLMatcher(BYTES, tools.grammar(stop))
    assert not matcher.is_error(), matcher.get_error()
    data = text.encode()
    return matcher.try_consume_tokens(list(data)) == len(data) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("text", "free", "forced", "parallel"),
    [
        (ADD_CALL, True, True, True),
        (NOW_CALL, True, True, True),
        (ADD_CALL + "\n" + NOW_CALL, False, False, True),
        (ADD_CALL + "\n", False, False, False),
        ("Hello {there}\n{1}", True, False, True),
        ("\n\n Hello", True, False, True),
        ("", False, False, False),
        ("{", False, False, False),
        ("\t\n {", False, False, False),
        (" " + ADD_CALL, False, False, False),
        (ADD_CALL + " ", False, False, False),
        ('{"a": 1}', False, False, False),
        ('{"name": "fly", "arguments": {}}', False, False, False),
        ('{"name": "add", "arguments": {}}', False, False, False),
        ('{"name": "add", "arguments": {"a": 1, "c": 3}}', False, False, False),
        ('{"name":"add","arguments":{"a":1}}', False, False, False),
    ],
)
def test_the_grammar_takes_calls_that_can_be_made_and_nothing_that_looks_like_one(text, free, forced, parallel):
    assert takes(read_tools([ADD, NOW]), text) == free
    assert takes(read_tools([ADD, NOW], "any"), text) == forced
    assert takes(read_tools([ADD, NOW], is_parallel=True), text) == parallel


def test_a_named_tool_is_the_only_one():
    tools = read_tools([ADD, NOW], "now")
    assert (tools.is_forced, [tool.name for tool in tools.tools]) == (True, ["now"])
    assert takes(tools, NOW_CALL) and not takes(tools, ADD_CALL)
    assert "add" not in tools.words


def test_nothing_is_held_where_no_tool_is_there_or_may_be_called():
    assert read_tools([], "auto") is None
    assert read_tools([], "none") is None
    assert read_tools([ADD], "none") is None


def test_references_are_those_of_each_tool_alone():
    one, two = (
        describe(
            name,
            {"properties": {"x": {"$ref": "#/$defs/X"}}, "required": ["x"], "$defs": {"X": {"type": kind}}},
        )
        for name, kind in (("one", "integer"), ("two", "boolean"))
    )
    tools = read_tools([one, two])
    assert takes(tools, write_call("one", {"x": 1})) and takes(tools, write_call("two", {"x": True}))
    assert not takes(tools, write_call("one", {"x": True}))


@pytest.mark.parametrize("name", ['sü"ß\\', "a\nb", "none"])
def test_any_name_can_be_written(name):
    assert takes(read_tools([describe(name)], {"name": name}), write_call(name, {}))


def test_a_call_is_one_line_whatever_style_its_schema_asks_for():
    own = {"x-guidance": {"whitespace_flexible": True}, "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    tools = read_tools([describe("f", own)])
    assert takes(tools, write_call("f", {"x": 1}))
    assert not takes(tools, '{"name": "f", "arguments": {\n"x": 1}}')


def test_nothing_follows_a_stop_string_in_a_text():
    stop = ["\nObs", "(a|b)/"]
    for text in ("Hello", "Hello\nObs", "Hello (a|b)/", "Hello a/ b", ADD_CALL):
        assert takes(read_tools([ADD]), text, stop), text
    for text in ("Hello\nObs.", "Hello (a|b)/ "):
        assert not takes(read_tools([ADD]), text, stop), text


@pytest.mark.parametrize("stop", [" is", "\r\n\t", "#&~-]}", '\\d"', "日é", "</s>", "\u2028", "\U0001f600"])
def test_every_stop_string_can_be_written(stop):
    tools = read_tools([ADD])
    assert takes(tools, "Hello" + stop, [stop])
    assert not takes(tools, "Hello" + stop + ".", [stop])
    assert takes(tools, "Hello" + stop[:-1], [stop])


def test_the_engine_is_held_by_the_grammar_alone():
    tools = read_tools([ADD])
    held = SamplingParams(grammar=tools.grammar(["x"]), max_new_tokens=9)
    free = SamplingParams(grammar=tools.grammar(), max_new_tokens=9)
    assert tools.hold(SamplingParams(regex="a", max_new_tokens=9)) == free
    ends = {"ignore_eos": True, "stop": ["x"], "stop_token_ids": [3], "min_new_tokens": 2}
    assert tools.hold(SamplingParams(**ends, max_new_tokens=9)) == held


@pytest.mark.parametrize(
    "options",
    [
        {"regex": "a"},
        {"json_schema": {"type": "object"}},
        {"ignore_eos": True},
        {"min_new_tokens": 2},
        {"stop_token_ids": [3]},
    ],
)
def test_what_contradicts_tools_is_refused(options):
    with pytest.raises(ConfigError, match=f"may call tools takes no {next(iter(options))}: leave it out"):
        read_tools([ADD]).check_options({"temperature": 1, **options})


def test_stop_strings_are_refused_where_a_call_is_forced_alone():
    assert read_tools([ADD]).check_options({"stop": ["x"], "ignore_eos": False}) is None
    with pytest.raises(ConfigError, match=r"a tool call must not be cut; got stop=\['x'\] .*: leave stop out"):
        read_tools([ADD], "any").check_options({"stop": ["x"]})


def test_the_words_name_the_tools_their_arguments_and_the_form_of_a_call():
    words = read_tools([ADD, NOW]).words
    assert '"add": Add two numbers.\nArguments: an object with "a" (a whole number)' in words
    assert '"now": Tell the time.\nArguments: an empty object.' in words
    assert 'To call one, answer with nothing but {"name": ..., "arguments": {...}}. Otherwise answer in words.' in words
    assert "on a line each" not in words


def test_the_words_say_whether_a_call_is_forced_and_whether_there_may_be_several():
    words = read_tools([ADD, NOW], "required", is_parallel=True).words
    assert "Answer with a call of one of them, and nothing else" in words
    assert "Otherwise" not in words and "on a line each" in words


def test_a_choice_that_names_no_tool_is_refused():
    with pytest.raises(ConfigError, match=r"tool_choice must name a tool, .*; got 'sub': the tools are add, now"):
        read_tools([ADD, NOW], "sub")


@pytest.mark.parametrize("choice", ["any", True, "add", {"name": "add"}])
def test_a_call_cannot_be_forced_without_tools(choice):
    with pytest.raises(ConfigError, match="needs tools to choose from; got none: give tools"):
        read_tools([], choice)


def test_tools_of_one_name_are_refused():
    other = describe("add", description="Add to a basket.")
    with pytest.raises(
        ConfigError, match=r"tools must have names of their own; got two of the name 'add', .*basket.*: name one"
    ):
        read_tools([ADD, NOW, other])


def test_tools_of_one_name_are_refused_also_where_they_are_told_in_the_same_words():
    one, other = (
        describe("add", {"properties": {"a": {"enum": ["x"], "additionalProperties": is_open}}})
        for is_open in (True, False)
    )
    assert read_tools([one]).words == read_tools([other]).words
    with pytest.raises(ConfigError, match=r"got two of the name 'add', .*True.* and .*False"):
        read_tools([one, other])


def test_a_tool_that_is_given_twice_counts_once():
    again = json.loads(json.dumps(ADD))
    again["function"]["parameters"]["title"] = "add"
    assert [tool.name for tool in read_tools([ADD, NOW, again]).tools] == ["add", "now"]
