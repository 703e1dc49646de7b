"""Tool calls in the text of an answer."""

from __future__ import annotations

import json

import pytest
from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms import ChatMessage, ChatResponse

from deepen_llm.errors import ConfigError
from deepen_llm.tools import write_call
from llama_index.llms.deepen.calls import as_calls, selections, text_of

ADD = '{"name": "add", "arguments": {"a": 1, "b": 2}}'


def _response(text, **fields):
    return ChatResponse(message=ChatMessage(role="assistant", content=text), **fields)


def test_what_is_written_is_read_again():
    text = "\n".join([write_call("add", {"a": 1, "b": 2}), write_call('say "ü"', '{"what": "a\\nb"}')])
    assert text.split("\n")[0] == ADD
    first, second = selections(as_calls(_response(text), 9))
    assert (first.tool_name, first.tool_kwargs) == ("add", {"a": 1, "b": 2})
    assert (second.tool_name, second.tool_kwargs) == ('say "ü"', {"what": "a\nb"})
    assert first.tool_id != second.tool_id


def test_a_call_that_was_cut_is_an_error_that_names_the_limit():
    with pytest.raises(
        ConfigError, match=r"must be whole; got '\{\"name\": .*cut at max_tokens=9 .*: raise max_tokens"
    ):
        as_calls(_response(ADD[:-4]), 9)


def test_a_text_stays_a_text():
    response = _response('No { "call"', delta="x")
    assert as_calls(response, 9) is response
    assert selections(response) == []
    assert text_of(response) == 'No { "call"'


@pytest.mark.parametrize("delta", [None, ADD])
def test_calls_are_blocks_and_no_text(delta):
    response = as_calls(_response(ADD, delta=delta, raw={"usage": 1}), 9)
    assert text_of(response) == "" and not response.message.content
    assert (response.delta, response.raw) == (delta and "", {"usage": 1})
    (selection,) = selections(response)
    assert (selection.tool_name, selection.tool_kwargs) == ("add", {"a": 1, "b": 2})
    (listed,) = json.loads(json.dumps(response.message.additional_kwargs["tool_calls"]))
    assert listed == {"id": selection.tool_id, "name": "add", "arguments": {"a": 1, "b": 2}}


def test_arguments_of_another_llms_message_may_be_json():
    block = ToolCallBlock(tool_name="add", tool_kwargs='{"a": 1}')
    (selection,) = selections(ChatResponse(message=ChatMessage(role="assistant", blocks=[block])))
    assert (selection.tool_id, selection.tool_kwargs) == ("", {"a": 1})
