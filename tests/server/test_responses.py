"""`/v1/responses`, as OpenAI's own client reads it."""

from __future__ import annotations

import json

import openai
import pydantic
import pytest

TOOL = {
    "type": "function",
    "name": "find_capital",
    "description": "Finds a capital",
    "parameters": {
        "type": "object",
        "properties": {"country": {"enum": ["France", "Peru"]}},
        "required": ["country"],
        "additionalProperties": False,
    },
    "strict": True,
}
QUESTION = "What is the capital of France?"


class City(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=12)


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_an_answer_is_that_of_the_chat(client):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    chat = client.chat.completions.create(model="deepen", messages=messages, max_tokens=8, temperature=0)
    answer = client.responses.create(
        model="deepen", input=QUESTION, instructions="Be brief.", max_output_tokens=8, temperature=0
    )
    assert answer.output_text == chat.choices[0].message.content
    assert (answer.status, answer.usage.input_tokens) == ("completed", chat.usage.prompt_tokens)


def test_an_answer_that_is_cut_is_incomplete(client):
    answer = client.responses.create(model="deepen", input="Tell a story.", max_output_tokens=1, temperature=0)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_the_events_of_a_stream_come_in_order_and_end_with_the_whole(client):
    asked = {"model": "deepen", "input": QUESTION, "max_output_tokens": 8, "temperature": 0}
    whole = client.responses.create(**asked)
    events = list(client.responses.create(**asked, stream=True))
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert set(kinds[4:-4]) == {"output_text.delta"}
    assert "".join(event.delta for event in events if event.type.endswith("delta")) == whole.output_text
    assert events[-1].response.output_text == whole.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_the_clients_own_reader_of_streams_follows_a_call(client):
    asked = {"model": "deepen", "input": QUESTION, "max_output_tokens": 60, "temperature": 0}
    with client.responses.stream(**asked, tools=[TOOL], tool_choice="required") as stream:
        call = stream.get_final_response().output[0]
    assert (call.type, call.name, call.status) == ("function_call", "find_capital", "completed")
    assert json.loads(call.arguments)["country"] in ("France", "Peru")


def test_the_result_of_a_call_is_read(client):
    asked = {"model": "deepen", "tools": [TOOL], "max_output_tokens": 60, "temperature": 0}
    called = client.responses.create(**asked, input=QUESTION, tool_choice="required")
    call = called.output[0]
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
        {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments},
        {"type": "function_call_output", "call_id": call.call_id, "output": "Paris"},
    ]
    answer = client.responses.create(**asked, input=items, tool_choice="none")
    assert answer.output[0].type == "message"
    assert answer.usage.input_tokens > called.usage.input_tokens - 60


def test_an_answer_is_parsed_by_its_class(client):
    answer = client.responses.parse(
        model="deepen", input=QUESTION, text_format=City, max_output_tokens=40, temperature=0
    )
    assert isinstance(answer.output_parsed, City)


BAD = {
    "what is kept": ({"store": True}, "store"),
    "an earlier response": ({"previous_response_id": "resp_1"}, "previous_response_id"),
    "in the background": ({"background": True}, "background"),
    "a tool of others": ({"tools": [{"type": "web_search"}]}, "tools"),
    "an unknown item": ({"input": [{"type": "reasoning", "id": "1", "summary": []}]}, "input[0]"),
    "an image": (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        "input[0].content[0]",
    ),
    "a negative limit": ({"max_output_tokens": -3}, "max_output_tokens"),
    "a form that is none": ({"text": {"format": "json"}}, "text"),
    "no items": ({"input": []}, "input"),
    "several answers": ({"extra_body": {"n": 2}}, "n"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_done_is_refused_by_the_name_of_its_field(client, case):
    changes, param = BAD[case]
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": "deepen", "input": "x", "max_output_tokens": 2, **changes})
    assert caught.value.body["param"] == param


@pytest.mark.parametrize("is_stream", [False, True])
def test_an_input_beyond_the_context_is_refused(client, is_stream):
    with pytest.raises(openai.BadRequestError, match="context holds 1024") as caught:
        client.responses.create(model="deepen", input="word " * 5000, stream=is_stream)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "input")
