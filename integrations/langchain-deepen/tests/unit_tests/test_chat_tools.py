"""`ChatDeepen` with tools and structured output, over a fake ensemble that says what the test tells it to."""

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.tools import tool
from pydantic import BaseModel
from pydantic.v1 import BaseModel as BaseModelV1
from typing_extensions import TypedDict

from deepen_llm.errors import ConfigError, GrammarError
from langchain_deepen import ChatDeepen

SAID = ['{"name": "add"', ', "arguments": {"a": ', "1", "}}"]


@tool
def add(a: int) -> int:
    """Add one."""
    return a + 1


@pytest.fixture
def chat(ensemble):
    return ChatDeepen(ensemble=ensemble, max_tokens=20)


class Point(BaseModel):
    """A point."""

    x: int


class PointV1(BaseModelV1):
    """A point."""

    x: int


class PointDict(TypedDict):
    """A point."""

    x: int


def whole(pieces):
    return sum(pieces[1:], start=pieces[0])


def test_the_system_message_tells_the_tools_and_the_grammar_holds_the_answer(chat, ensemble):
    chat.bind_tools([add]).invoke([SystemMessage("Be brief."), HumanMessage("1 + 1?")])
    (first, second, third) = ensemble.calls[0][1]
    assert (first["content"], third["content"]) == ("Be brief.", "1 + 1?")
    assert second["role"] == "system"
    assert '"name": "add"' in second["content"]
    assert "TEXT" in ensemble.params.grammar
    chat.bind_tools([add], tool_choice="any").invoke("1 + 1?")
    assert "TEXT" not in ensemble.params.grammar


def test_a_call_comes_as_a_tool_call(chat, ensemble):
    ensemble.words = SAID
    message = chat.bind_tools([add]).invoke("1 + 1?")
    (call,) = message.tool_calls
    assert (call["name"], call["args"], call["type"]) == ("add", {"a": 1}, "tool_call")
    assert (message.content, message.invalid_tool_calls) == ("", [])
    assert message.response_metadata["finish_reason"] == "tool_calls"
    assert message.usage_metadata["output_tokens"] == 4


def test_a_streamed_call_comes_in_pieces_and_joins_to_the_same(chat, ensemble, recorder):
    ensemble.words = SAID
    pieces = list(chat.bind_tools([add]).stream("1 + 1?", config={"callbacks": [recorder]}))
    message = whole(pieces)
    assert [piece.tool_call_chunks[0]["args"] for piece in pieces if piece.tool_call_chunks] == ['{"a": ', "1", "}"]
    assert (message.tool_calls[0]["name"], message.tool_calls[0]["args"]) == ("add", {"a": 1})
    assert message.response_metadata["finish_reason"] == "tool_calls"
    assert message.content == "".join(recorder.tokens) == ""
    assert all(piece.tool_call_chunks or piece.response_metadata for piece in pieces)


async def test_the_async_twins_read_the_same_call(chat, ensemble):
    ensemble.words = SAID
    bound = chat.bind_tools([add], tool_choice="add")
    assert (await bound.ainvoke("1 + 1?")).tool_calls[0]["args"] == {"a": 1}
    message = whole([piece async for piece in bound.astream("1 + 1?")])
    assert message.tool_calls[0]["args"] == {"a": 1}


def test_text_beside_tools_is_text(chat, ensemble):
    message = chat.bind_tools([add]).invoke("Hello")
    assert (message.content, message.tool_calls) == ("The answer is 5.", [])
    assert message.response_metadata["finish_reason"] == "stop"
    assert next(piece.content for piece in chat.bind_tools([add]).stream("Hello")) == "The"


def test_a_call_that_was_cut_is_invalid_and_says_why(ensemble):
    ensemble.words = SAID
    bound = ChatDeepen(ensemble=ensemble, max_tokens=3).bind_tools([add])
    message = bound.invoke("1 + 1?")
    assert (message.tool_calls, message.response_metadata["finish_reason"]) == ([], "length")
    assert "cut at max_tokens=3, before the call was whole: raise max_tokens" in message.invalid_tool_calls[0]["error"]
    streamed = whole(list(bound.stream("1 + 1?")))
    assert (streamed.tool_calls, streamed.response_metadata["finish_reason"]) == ([], "length")
    assert "raise max_tokens" in streamed.invalid_tool_calls[0]["args"]


def test_tools_are_not_told_where_none_may_be_called(chat, ensemble):
    chat.bind_tools([add], tool_choice="none").invoke("Hello")
    assert ensemble.calls[0][1] == [{"role": "user", "content": "Hello"}]
    assert not ensemble.params.is_structured


def test_stop_cuts_a_text_and_never_a_call(ensemble):
    chat = ChatDeepen(ensemble=ensemble, stop=[" is"])
    message = chat.bind_tools([add]).invoke("Hello")
    assert (message.content, message.response_metadata["finish_reason"]) == ("The answer", "stop")
    assert ensemble.params.stop == ()
    assert " is" in ensemble.params.grammar
    assert whole(list(chat.bind_tools([add]).stream("Hello"))).content == "The answer"
    ensemble.words = SAID
    assert chat.bind_tools([add]).invoke("Hello", stop=["arg"]).tool_calls
    assert chat.bind_tools([add], tool_choice="any").invoke("Hello").tool_calls
    with pytest.raises(
        ConfigError, match=r"a tool call must not be cut; got stop=\['x'\] with a tool_choice that forces"
    ):
        chat.bind_tools([add], tool_choice="any").invoke("Hello", stop=["x"])


def test_tools_take_the_place_of_the_constructors_structure(ensemble):
    chat = ChatDeepen(ensemble=ensemble, regex="a+")
    chat.bind_tools([add]).invoke("Hello", stop=["x"])
    assert (ensemble.params.regex, "call_0" in ensemble.params.grammar) == (None, True)


def test_forms_that_contradict_each_other_are_refused(chat):
    with pytest.raises(ConfigError, match="an answer has one structure; got tools and regex: give one of them"):
        chat.bind_tools([add]).invoke("Hello", regex="a")
    with pytest.raises(ConfigError, match="tool_choice='any' needs tools to choose from"):
        chat.invoke("Hello", tool_choice="any")
    with pytest.raises(ConfigError, match="response_format must be"):
        chat.invoke("Hello", response_format={"type": "text"})


def test_bind_tools_refuses_at_once(chat):
    odd = {"title": "odd", "type": "object", "properties": {"x": {"not": {"type": "string"}}}}
    with pytest.raises(GrammarError, match="the arguments of tool 'odd'"):
        chat.bind_tools([add, odd])
    with pytest.raises(ConfigError, match="got 'sub': the tools are add"):
        chat.bind_tools([add], tool_choice="sub")
    with pytest.raises(ConfigError, match="ChatDeepen has no option of one call 'temprature'"):
        chat.bind_tools([add], temprature=1)


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
@pytest.mark.parametrize("schema", [Point, PointV1, PointDict, Point.model_json_schema()], ids=str)
def test_every_schema_is_parsed_by_every_method(chat, ensemble, schema, method):
    is_call = method == "function_calling"
    name = schema.__name__ if isinstance(schema, type) else "Point"
    ensemble.words = ['{"name": "' + name + '", "arguments": {"x": 1', "}}"] if is_call else ['{"x": 1', "}"]
    model = chat.with_structured_output(schema, method=method)
    expected = schema(x=1) if isinstance(schema, type) else {"x": 1}
    assert model.invoke("Where?") == expected
    assert list(model.stream("Where?"))[-1] == expected


def test_the_schema_is_told_and_decoded_by(chat, ensemble):
    ensemble.words = ['{"x": 1}']
    chat.with_structured_output(Point).invoke("Where?")
    told = ensemble.calls[0][1][0]
    assert (told["role"], told["content"].splitlines()[0]) == ("system", "Answer in JSON: A point.")
    assert "title" not in told["content"]
    assert ensemble.params.json_schema == Point.model_json_schema()
    chat.with_structured_output(Point, method="json_mode").invoke("Where?")
    assert [one["role"] for one in ensemble.calls[1][1]] == ["user"]
    assert ensemble.params.json_schema == Point.model_json_schema()


def test_json_mode_without_a_schema_is_any_object(chat, ensemble):
    ensemble.words = ['{"a": [1]}']
    assert chat.with_structured_output(method="json_mode").invoke("Where?") == {"a": [1]}
    assert ensemble.params.json_schema == {"type": "object"}


def test_partial_dictionaries_are_streamed(chat, ensemble):
    ensemble.words = ['{"x": 1', "2", ', "y": ', "3}"]
    schema = {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}}
    assert list(chat.with_structured_output(schema).stream("?")) == [{"x": 1}, {"x": 12}, {"x": 12, "y": 3}]


async def test_structured_output_is_async_too(chat, ensemble):
    ensemble.words = ['{"x": 1', "}"]
    model = chat.with_structured_output(Point)
    assert await model.ainvoke("?") == Point(x=1)
    assert [point async for point in model.astream("?")] == [Point(x=1)]
    assert (await model.abatch(["?", "?"])) == [Point(x=1)] * 2


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
async def test_an_answer_that_does_not_fit_says_so(ensemble, method):
    ensemble.words = ['{"name": "Point", "arguments": ', '{"x"', ": 1", "2}}"]
    model = ChatDeepen(ensemble=ensemble, max_tokens=3).with_structured_output(Point, method=method)
    with pytest.raises(
        OutputParserException, match=r"cut at max_tokens=3 before its JSON was whole: .* raise max_tokens"
    ):
        model.invoke("?")
    with pytest.raises(OutputParserException, match="cut at max_tokens=3"):
        list(model.stream("?"))
    with pytest.raises(OutputParserException, match="cut at max_tokens=3"):
        await model.ainvoke("?")
    with pytest.raises(OutputParserException, match="cut at max_tokens=3"):
        [point async for point in model.astream("?")]


def test_include_raw_gives_the_message_and_the_error(ensemble):
    ensemble.words = ['{"x": 1', "}"]
    chat = ChatDeepen(ensemble=ensemble)
    good = chat.with_structured_output(Point, include_raw=True).invoke("?")
    assert (good["parsed"], good["parsing_error"], good["raw"].content) == (Point(x=1), None, '{"x": 1}')
    cut = chat.with_structured_output(Point, include_raw=True, max_tokens=1).invoke("?")
    assert (cut["parsed"], cut["raw"].response_metadata["finish_reason"]) == (None, "length")
    assert "raise max_tokens" in str(cut["parsing_error"])


def test_stop_and_structure_do_not_go_together(ensemble):
    ensemble.words = ['{"x": 1', "}"]
    chat = ChatDeepen(ensemble=ensemble, stop=["1"])
    assert chat.with_structured_output(Point).invoke("?") == Point(x=1)
    assert ensemble.params.stop == ()
    with pytest.raises(ConfigError, match=r"an answer of a given json_schema must not be cut; got stop=\['1'\]"):
        chat.with_structured_output(Point).invoke("?", stop=["1"])


def test_strict_requires_every_property(chat, ensemble):
    class Loose(BaseModel):
        x: int = 0

    ensemble.words = ['{"x": 1}']
    chat.with_structured_output(Loose, strict=True).invoke("?")
    assert ensemble.params.json_schema["required"] == ["x"]


def test_what_is_no_schema_or_method_is_refused(chat):
    with pytest.raises(ConfigError, match="method must be 'json_schema', 'function_calling' or 'json_mode'; got 'xml'"):
        chat.with_structured_output(Point, method="xml")
    with pytest.raises(ConfigError, match="method='json_schema' needs a schema; got None"):
        chat.with_structured_output()
    with pytest.raises(
        ConfigError, match="a schema must be a pydantic model, a TypedDict or a dict; got <class 'int'>"
    ):
        chat.with_structured_output(int)
    with pytest.raises(ConfigError, match="the schema must be a pydantic model, a TypedDict or a dict; got 3"):
        chat.with_structured_output(3)
    with pytest.raises(ConfigError, match="the schema must be a JSON schema with a title"):
        chat.with_structured_output({"type": "object", "properties": {}}, strict=True)


def test_chunks_without_content_are_not_sent(chat, ensemble):
    ensemble.words = SAID
    for piece in chat.bind_tools([add]).stream("1 + 1?"):
        assert isinstance(piece, AIMessageChunk)
        assert piece.tool_call_chunks or piece.chunk_position == "last"
