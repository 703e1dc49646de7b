"""Tools and structured output on the starter models: whatever these say, it parses."""

import json
import re
from typing import Literal

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from deepen_llm.errors import GrammarError
from langchain_deepen import ChatDeepen, DeepenLLM


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def now(zone: Literal["东京", "Zürich"]) -> str:
    """Tell the time in a zone."""
    return f"noon in {zone}"


class Person(BaseModel):
    """A person that a text is about."""

    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=150)
    likes: list[Literal["tea", "coffee"]] = Field(max_length=3)


@pytest.fixture
def chat(ensemble):
    return ChatDeepen(ensemble=ensemble, max_tokens=96)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 5.0])
def test_a_forced_call_parses_at_any_temperature(chat, temperature):
    bound = chat.bind_tools([add, now], tool_choice="any")
    for seed in range(3):
        message = bound.invoke("What is 2 + 3?", temperature=temperature, seed=seed)
        (call,) = message.tool_calls
        chosen = {"add": add, "now": now}[call["name"]]
        assert chosen.invoke(call["args"])
        assert message.response_metadata["finish_reason"] == "tool_calls"
        assert message.content == ""


def test_a_named_tool_is_called_and_its_unicode_arguments_arrive(chat):
    (call,) = chat.bind_tools([add, now], tool_choice="now").invoke("What is 2 + 3?").tool_calls
    assert call["name"] == "now"
    assert call["args"]["zone"] in ("东京", "Zürich")


def test_a_streamed_call_is_the_call_of_invoke(chat):
    bound = chat.bind_tools([add], tool_choice="any")
    pieces = list(bound.stream("What is 2 + 3?"))
    message = sum(pieces[1:], start=pieces[0])
    assert message.tool_calls[0]["args"] == bound.invoke("What is 2 + 3?").tool_calls[0]["args"]
    assert message.content == ""
    assert sum(bool(piece.tool_call_chunks) for piece in pieces) > 2


@pytest.mark.parametrize("seed", range(4))
def test_a_free_choice_is_text_or_a_call_and_nothing_between(chat, seed):
    message = chat.bind_tools([add]).invoke("What is 2 + 3?", temperature=2.0, seed=seed)
    assert bool(message.content) != bool(message.tool_calls)
    assert message.invalid_tool_calls == []
    assert not message.content.startswith("{")


def test_parallel_calls_all_parse(chat):
    bound = chat.bind_tools([now], tool_choice="any", parallel_tool_calls=True)
    message = bound.invoke("What time is it?", temperature=3.0, seed=1)
    assert message.tool_calls
    assert message.invalid_tool_calls == []
    assert len({call["id"] for call in message.tool_calls}) == len(message.tool_calls)


def test_an_agent_loop_goes_round(chat):
    messages = [HumanMessage("What is 2 + 3?")]
    messages.append(chat.bind_tools([add], tool_choice="any").invoke(messages))
    result = add.invoke(messages[-1].tool_calls[0])
    assert isinstance(result, ToolMessage)
    messages.append(result)
    answer = chat.bind_tools([add]).invoke(messages)
    assert answer.content or answer.tool_calls


def test_a_call_that_does_not_fit_is_invalid(chat):
    message = chat.bind_tools([add], tool_choice="any").invoke("What is 2 + 3?", max_tokens=4)
    assert message.tool_calls == []
    assert "max_tokens=4" in message.invalid_tool_calls[0]["error"]
    assert message.response_metadata["finish_reason"] == "length"


def test_a_call_near_max_tokens_is_closed_in_time(chat):
    @tool
    def write(text: str) -> str:
        """Write a long story."""
        return text

    for max_tokens in (48, 64):
        message = chat.bind_tools([write], tool_choice="any").invoke("A long story?", max_tokens=max_tokens)
        assert message.tool_calls[0]["name"] == "write"


def test_an_answer_that_was_closed_before_its_tokens_ran_out_says_so(chat):
    endless = {"json_schema": {"type": "string"}, "temperature": 9.0, "seed": 0, "max_tokens": 24}
    message = chat.invoke("Hello!", **endless)
    assert isinstance(json.loads(message.content), str) and message.response_metadata["is_shortened"] is True
    *_, last = chat.stream("Hello!", **endless)
    assert last.response_metadata["is_shortened"] is True
    assert "is_shortened" not in chat.invoke("Hello!", max_tokens=24).response_metadata


def test_stop_ends_a_text_beside_tools(chat):
    bound = chat.bind_tools([add])
    whole = bound.invoke("Hello!", temperature=1.5, seed=3, max_tokens=24).content
    assert len(whole) > 4
    stop = whole[2:4]
    cut = bound.invoke("Hello!", temperature=1.5, seed=3, max_tokens=24, stop=[stop])
    assert stop not in cut.content
    assert cut.response_metadata["finish_reason"] == "stop" or cut.usage_metadata["output_tokens"] == 24


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
@pytest.mark.parametrize("temperature", [0.0, 4.0])
def test_structured_output_validates_at_any_temperature(chat, method, temperature):
    model = chat.with_structured_output(Person, method=method)
    assert isinstance(model.invoke("Golzo is 40 and likes tea.", temperature=temperature, seed=2), Person)


async def test_structured_output_streams_partial_dictionaries(chat):
    model = chat.with_structured_output(Person.model_json_schema())
    pieces = [piece async for piece in model.astream("Golzo is 40 and likes tea.")]
    assert len(pieces) > 2
    assert Person.model_validate(pieces[-1])
    assert pieces[-1] == await model.ainvoke("Golzo is 40 and likes tea.")


def test_structured_output_that_does_not_fit_names_max_tokens(chat):
    answer = chat.with_structured_output(Person, include_raw=True, max_tokens=3).invoke("Golzo is 40.")
    assert answer["raw"].response_metadata["finish_reason"] == "length"
    assert isinstance(answer["parsing_error"], OutputParserException)
    assert "cut after 3 tokens" in str(answer["parsing_error"])


@pytest.mark.parametrize("model_class", [DeepenLLM, ChatDeepen])
def test_structures_are_options_of_both_models(model_class, ensemble):
    model = model_class(ensemble=ensemble, max_tokens=48, regex="(yes|no)!", stop=["!"])

    def text(answer):
        return answer if isinstance(answer, str) else answer.content

    assert re.fullmatch("(yes|no)!", text(model.invoke("Is it?")))
    assert Person.model_validate_json(text(model.invoke("Who?", json_schema=Person, max_tokens=96)))
    answer = text(model.bind(grammar='start: "[" /[0-9]+/ "]"').invoke("How many?", max_tokens=24))
    assert re.fullmatch(r"\[[0-9]+\]", answer)
    with pytest.raises(GrammarError):
        model.invoke("Is it?", regex="(")


def test_a_structure_is_the_same_streamed(chat):
    model = chat.bind(json_schema=Person)
    whole = sum(model.stream("Who?"), start=AIMessageChunk(content=""))
    assert whole.content == model.invoke("Who?").content
    assert whole.response_metadata["share_fused"] > 0
