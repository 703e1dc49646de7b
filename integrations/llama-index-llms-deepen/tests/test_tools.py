"""Tools: which may be called, what is told about them, and calls that always parse, from any model."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.program.function_program import get_function_tool
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel, Field, HttpUrl

from deepen_llm.errors import ConfigError, GrammarError
from llama_index.llms.deepen import DeepenLLM
from llama_index.llms.deepen.tools import describe_tool, is_object_tool, read_tools

QUESTION = [ChatMessage(role="user", content="1 plus 2?")]
CALLS = '{"name": "add", "arguments": {"a": 1, "b": 2}}\n{"name": "paint", "arguments": {"colour": "red"}}'


def add(a: int, b: int) -> int:
    """Adds two
    numbers."""
    return a + b


def paint(colour: Literal["red", "green"]) -> str:
    """Paints."""
    return f"painted {colour}"


class Lamp(BaseModel):
    """A lamp."""

    owner: str


TOOLS = [FunctionTool.from_defaults(add), FunctionTool.from_defaults(paint)]
DESCRIBED = [describe_tool(tool, tool.metadata.get_parameters_dict()) for tool in TOOLS]


def names(options):
    return [tool.name for tool in read_tools(options).tools]


def test_tools_of_llama_index_are_what_they_are_described_as():
    assert read_tools({"tools": TOOLS}) == read_tools({"tools": DESCRIBED})
    words = read_tools({"tools": TOOLS}).words
    assert '"add": ' in words and "Adds two numbers." in words
    assert 'Arguments: an object with "a" (a whole number), "b" (a whole number).' in words
    assert 'an object with "colour" ("red" or "green")' in words


@pytest.mark.parametrize("choice", [None, "auto", False, "any"])
def test_a_tool_that_is_required_is_called_where_the_choice_leaves_it_free(choice):
    tools = read_tools({"tools": DESCRIBED, "tool_choice": choice, "tool_required": True})
    assert tools.is_forced and len(tools.tools) == 2


def test_a_choice_is_that_of_the_call():
    assert not read_tools({"tools": DESCRIBED}).is_forced
    assert read_tools({"tools": DESCRIBED, "tool_choice": "none"}) is None
    assert names({"tools": DESCRIBED, "tool_choice": "paint"}) == ["paint"]
    assert names({"tools": DESCRIBED, "tool_choice": "paint", "tool_required": True}) == ["paint"]


def test_several_calls_are_allowed_by_the_option_that_says_so():
    assert not read_tools({"tools": DESCRIBED}).is_parallel
    assert read_tools({"tools": DESCRIBED, "allow_parallel_tool_calls": True}).is_parallel


def test_no_tools_leave_the_answer_free():
    assert read_tools({}) is None
    assert read_tools({"tools": [], "tool_choice": "auto", "allow_parallel_tool_calls": True}) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tools": DESCRIBED, "tool_choice": "fly"}, "got 'fly': the tools are add, paint"),
        ({"tools": [{"name": "add"}]}, "a tool must be .*; got"),
        ({"tools": [add]}, "a tool must be .*; got <function add"),
        ({"tool_required": True}, "tool_required=True asks for a call of a tool; got no tools"),
        (
            {"tools": DESCRIBED, "tool_required": True, "tool_choice": "none"},
            "asks for a call; got tool_choice='none' w",
        ),
        ({"tools": [], "tool_choice": "add"}, "tool_choice='add' needs tools to choose from"),
    ],
)
def test_what_cannot_be_called_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        read_tools(options)


def test_the_tool_of_a_program_is_known():
    assert is_object_tool(get_function_tool(Lamp))
    assert not any(map(is_object_tool, TOOLS))


async def _respond(llm, method, **options):
    """The last response of any of the four ways to chat with tools."""
    result = getattr(llm, method)(TOOLS, QUESTION[0].content, **options)
    if method.startswith("a"):
        result = await result
    if "stream" not in method:
        return result
    return [response async for response in result][-1] if method.startswith("a") else list(result)[-1]


WAYS = ("chat_with_tools", "achat_with_tools", "stream_chat_with_tools", "astream_chat_with_tools")


@pytest.mark.parametrize("method", WAYS)
async def test_every_way_to_chat_with_tools_gives_calls(llm, ensemble, method):
    ensemble.answers = [CALLS]
    response = await _respond(llm, method, allow_parallel_tool_calls=True, max_tokens=9)
    calls = llm.get_tool_calls_from_response(response)
    assert [(call.tool_name, call.tool_kwargs) for call in calls] == [
        ("add", {"a": 1, "b": 2}),
        ("paint", {"colour": "red"}),
    ]
    assert response.raw["usage"]["total_tokens"] == 18
    ((_, content, params),) = ensemble.calls
    assert content[0]["role"] == "system" and "Adds two numbers." in content[0]["content"]
    assert content[1] == {"role": "user", "content": "1 plus 2?"}
    assert (params.grammar, params.max_new_tokens) == (
        read_tools({"tools": DESCRIBED, "allow_parallel_tool_calls": True}).grammar(),
        9,
    )


@pytest.mark.parametrize("method", WAYS)
async def test_every_way_to_chat_with_tools_gives_text_where_the_models_write_one(llm, ensemble, method):
    response = await _respond(llm, method)
    assert response.message.content == "Paris is it."
    assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
    with pytest.raises(ConfigError, match=r"must hold a tool call; got the text 'Paris is it\.'"):
        llm.get_tool_calls_from_response(response)


def test_a_stream_gives_text_as_it_comes_and_calls_whole(llm, ensemble):
    assert [response.delta for response in llm.stream_chat_with_tools(TOOLS, "?")] == ["Paris", " is", " it.", ""]
    ensemble.answers = [CALLS]
    (response,) = llm.stream_chat_with_tools(TOOLS, "?", allow_parallel_tool_calls=True)
    assert len(response.message.blocks) == 2


@pytest.mark.parametrize("method", WAYS)
async def test_a_call_that_was_cut_is_an_error_on_every_way(llm, ensemble, method):
    ensemble.answers, ensemble.finish_reason = [CALLS[:20]], "length"
    with pytest.raises(ConfigError, match="cut at max_tokens=9"):
        await _respond(llm, method, max_tokens=9)
    assert ensemble.num_running == 0


def test_an_abandoned_stream_of_calls_stops_the_work(llm, ensemble):
    stream = llm.stream_chat_with_tools(TOOLS, "?")
    next(stream)
    del stream
    assert (ensemble.num_running, ensemble.num_cancelled) == (0, 1)


@pytest.mark.parametrize("options", [{"ignore_eos": True}, {"regex": "a"}, {"json_schema": {"type": "object"}}])
def test_tools_share_an_answer_with_no_structure(llm, ensemble, options):
    with pytest.raises(ConfigError, match=f"may call tools takes no {next(iter(options))}"):
        llm.chat_with_tools(TOOLS, "?", **options)
    assert ensemble.calls == []


@pytest.mark.parametrize("method", WAYS)
async def test_stop_cuts_a_text_and_never_a_call(ensemble, method):
    llm = DeepenLLM(ensemble=ensemble, stop=[" is"])
    assert (await _respond(llm, method)).message.content == "Paris"
    assert (await _respond(llm, method, stop=[" it"])).message.content == "Paris is"
    assert all(params.stop == () and r"\x{20}i" in params.grammar for _, _, params in ensemble.calls)
    ensemble.answers = [CALLS] * 2
    for options in ({"stop": ["add"]}, {"tool_required": True}):
        response = await _respond(llm, method, allow_parallel_tool_calls=True, **options)
        assert len(llm.get_tool_calls_from_response(response)) == 2
    with pytest.raises(ConfigError, match="a tool call must not be cut"):
        await _respond(llm, method, tool_required=True, stop=["x"])


def test_a_model_without_templates_reads_tools_through_messages_to_prompt(ensemble):
    llm = DeepenLLM(ensemble=ensemble, messages_to_prompt=lambda messages: "|".join(m.content for m in messages))
    llm.chat_with_tools(TOOLS, "1 plus 2?")
    assert ensemble.calls[0][1].endswith("|1 plus 2?") and "Adds two numbers." in ensemble.calls[0][1]


def test_predict_and_call_calls_the_tool(llm, ensemble):
    ensemble.answers = [CALLS.split("\n")[0]]
    response = llm.predict_and_call(TOOLS, "1 plus 2?", tool_required=True)
    assert (response.response, response.sources[0].raw_output) == ("3", 3)


@pytest.mark.parametrize("temperature", [0.0, 5.0])
def test_calls_of_the_starter_models_always_parse(starter, temperature):
    llm = DeepenLLM(ensemble=starter, max_tokens=120, temperature=temperature, seed=1)
    for choice in ("add", "paint", "required"):
        response = llm.chat_with_tools(TOOLS, "What is 1 plus 2?", tool_choice=choice)
        (call,) = llm.get_tool_calls_from_response(response)
        assert choice in (call.tool_name, "required")
        assert isinstance(add(**call.tool_kwargs), int) if call.tool_name == "add" else paint(**call.tool_kwargs)
    several = llm.chat_with_tools(TOOLS, "?", tool_required=True, allow_parallel_tool_calls=True)
    assert json.loads(json.dumps(several.message.additional_kwargs["tool_calls"]))


def test_a_tool_that_no_grammar_can_express_is_an_error_at_the_call(starter):
    class Odd(BaseModel):
        size: int = Field(json_schema_extra={"not": {"const": 1}})

    tool = FunctionTool.from_defaults(lambda size: size, name="odd", description="Odd.", fn_schema=Odd)
    with pytest.raises(GrammarError, match=r"the arguments of tool 'odd' cannot be decoded: .*not"):
        DeepenLLM(ensemble=starter).chat_with_tools([tool], "?", tool_required=True)
    assert starter.num_running == 0


def buy(file: Path, price: Decimal, page: HttpUrl) -> str:
    """Buy what a file lists."""
    return f"{file} {price} {page}"


def test_arguments_are_no_wider_than_what_their_classes_read():
    tools = read_tools({"tools": [FunctionTool.from_defaults(buy)]})
    arguments = tools.tools[0].parameters["properties"]
    assert arguments["price"]["type"] == "number"
    assert (arguments["file"]["format"], arguments["page"]["format"]) == ("path", "http-url")
