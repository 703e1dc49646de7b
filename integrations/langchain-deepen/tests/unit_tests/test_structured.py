"""Structured output over a fake ensemble that says what the test tells it to."""

import pytest
from langchain_core.exceptions import OutputParserException
from pydantic import BaseModel
from pydantic.v1 import BaseModel as BaseModelV1
from typing_extensions import TypedDict

from deepen_llm.errors import ConfigError, GrammarError
from langchain_deepen import ChatDeepen

SAID = ['{"name": "add"', ', "arguments": {"a": ', "1", "}}"]


class Point(BaseModel):
    """A point."""

    x: int


class PointV1(BaseModelV1):
    """A point."""

    x: int


class PointDict(TypedDict):
    """A point."""

    x: int


@pytest.fixture
def chat(ensemble):
    return ChatDeepen(ensemble=ensemble, max_tokens=20)


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
    words = 'Answer with JSON only: an object with "x" (a whole number). About it: A point.'
    assert told == {"role": "system", "content": words}
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
        OutputParserException,
        match=r"cut after 3 tokens, at max_tokens or .* before its JSON was whole: raise max_tokens",
    ):
        model.invoke("?")
    with pytest.raises(OutputParserException, match="cut after 3 tokens"):
        list(model.stream("?"))
    with pytest.raises(OutputParserException, match="cut after 3 tokens"):
        await model.ainvoke("?")
    with pytest.raises(OutputParserException, match="cut after 3 tokens"):
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


@pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
def test_a_schema_that_cannot_be_followed_is_refused_before_any_call(chat, method):
    schema = {"title": "odd", "type": "object", "properties": {"x": {"not": {"type": "string"}}}}
    with pytest.raises(GrammarError, match="not"):
        chat.with_structured_output(schema, method=method)


def test_what_is_no_schema_or_method_is_refused(chat):
    with pytest.raises(ConfigError, match="method must be 'json_schema', 'function_calling' or 'json_mode'; got 'xml'"):
        chat.with_structured_output(Point, method="xml")
    with pytest.raises(ConfigError, match="method='json_schema' needs a schema; got None"):
        chat.with_structured_output()
    with pytest.raises(
        ConfigError, match="a JSON schema must come from a pydantic model, a TypedDict or a dict; got <class 'int'>"
    ):
        chat.with_structured_output(int)
    with pytest.raises(ConfigError, match="the schema must be a pydantic model, a TypedDict or a dict; got 3"):
        chat.with_structured_output(3)
    with pytest.raises(ConfigError, match="the schema must be a JSON schema with a title"):
        chat.with_structured_output({"type": "object", "properties": {}}, strict=True)
