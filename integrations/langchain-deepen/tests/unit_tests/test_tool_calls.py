"""Calls in LangChain's messages: however an answer is cut into pieces, LangChain joins them to the same."""

import json

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk

from deepen_llm.frontends.tools import CallReader
from langchain_deepen.tool_calls import call_chunks, last_chunks, message_parts, write_calls

ARGUMENTS = '{"a": [1, {"b": "}\\\\\\" {"}], "c": {}}'
CALL = '{"name": "add", "arguments": ' + ARGUMENTS + "}"
PARSED = {"a": [1, {"b": '}\\" {'}], "c": {}}
NOW = '{"name": "now", "arguments": {}}'


def run(text, size):
    """The reader behind a text in pieces of a size, and LangChain's sum of the pieces of calls."""
    reader, message = CallReader(), AIMessageChunk(content="")
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    for piece in pieces[:-1]:
        message += AIMessageChunk(content="", tool_call_chunks=call_chunks(reader.push(piece)[1]))
    _, last = reader.push(pieces[-1], is_last=True)
    return reader, message + AIMessageChunk(content="", tool_call_chunks=last_chunks(last, reader.calls, 9))


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_the_pieces_join_to_the_calls_of_the_whole(size):
    reader, message = run(CALL + "\n" + NOW, size)
    assert [(call["name"], call["args"]) for call in message.tool_calls] == [("add", PARSED), ("now", {})]
    assert message.tool_calls == message_parts(reader.calls, 9)["tool_calls"]
    assert message.invalid_tool_calls == message_parts(reader.calls, 9)["invalid_tool_calls"] == []


@pytest.mark.parametrize("size", [4, 1000])
@pytest.mark.parametrize("length", range(1, len(CALL)))
def test_a_call_that_was_cut_is_never_a_call(length, size):
    reader, message = run(CALL[:length], size)
    assert message.tool_calls == []
    (invalid,) = message.invalid_tool_calls
    assert "the answer was cut at max_tokens=9" in invalid["args"]
    parts = message_parts(reader.calls, 9)
    assert parts["tool_calls"] == []
    assert "raise max_tokens" in parts["invalid_tool_calls"][0]["error"]
    assert parts["invalid_tool_calls"][0]["id"] == invalid["id"]


def test_of_two_calls_the_one_that_was_cut_is_invalid():
    reader, message = run(CALL + "\n" + NOW[:14], 1000)
    assert [call["name"] for call in message.tool_calls] == ["add"]
    assert len(message.invalid_tool_calls) == 1
    parts = message_parts(reader.calls, 9)
    assert (len(parts["tool_calls"]), len(parts["invalid_tool_calls"])) == (1, 1)


def test_a_message_with_calls_is_written_as_the_models_write_it():
    reader, _ = run(CALL + "\n" + NOW[:-1], 1000)
    first, second = write_calls(AIMessage("", **message_parts(reader.calls, 9)))
    assert json.loads(first) == json.loads(CALL)
    assert second == NOW[:-1]
