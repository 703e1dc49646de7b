"""Calls read piece by piece: however an answer is cut into pieces, the calls are the same."""

import pytest
from langchain_core.messages import AIMessageChunk

from langchain_deepen.tool_calls import CallReader, write_call

ARGUMENTS = '{"a": [1, {"b": "}\\\\\\" {"}], "c": {}}'
CALL = '{"name": "add", "arguments": ' + ARGUMENTS + "}"
PARSED = {"a": [1, {"b": '}\\" {'}], "c": {}}


def run(pieces, **options):
    """The reader after the pieces, the text it gave away and the merged pieces of calls."""
    reader = CallReader(9, **options)
    given = [reader.push(piece, is_last=n == len(pieces) - 1) for n, piece in enumerate(pieces)]
    chunks = [AIMessageChunk(content=text, tool_call_chunks=calls) for text, calls in given]
    return reader, sum(chunks[1:], start=chunks[0])


def cut_every(text, size):
    return [text[start : start + size] for start in range(0, len(text), size)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_call_is_the_same_however_it_is_cut(size):
    reader, message = run(cut_every(CALL, size))
    assert reader.is_call
    assert message.content == ""
    (call,) = message.tool_calls
    assert (call["name"], call["args"]) == ("add", PARSED)
    assert message.tool_call_chunks[0]["args"] == ARGUMENTS
    (whole,) = reader.message_parts()["tool_calls"]
    assert whole == call


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_calls_on_lines_of_their_own_are_calls_of_their_own(size):
    reader, message = run(cut_every(CALL + "\n" + write_call("now", {}), size))
    assert [(call["name"], call["args"]) for call in message.tool_calls] == [("add", PARSED), ("now", {})]
    assert [call["id"] for call in message.tool_calls] == [call.id for call in reader.calls]
    assert len({call.id for call in reader.calls}) == 2
    assert [chunk["index"] for chunk in message.tool_call_chunks] == [0, 1]


def test_the_name_comes_first_and_the_arguments_as_they_come():
    reader = CallReader(9)
    assert reader.push('{"name": "add", "arg') == ("", [])
    _, (first,) = reader.push('uments": {"a"')
    assert (first["name"], first["args"], first["id"]) == ("add", '{"a"', reader.calls[0].id)
    _, (second,) = reader.push(": 1}")
    assert (second["name"], second["args"], second["id"], second["index"]) == (None, ": 1", None, 0)
    assert reader.push("}")[1][0]["args"] == "}"
    assert reader.push("", is_last=True) == ("", [])


def test_text_is_given_away_at_once():
    reader = CallReader(9)
    assert reader.push("Hel") == ("Hel", [])
    assert reader.push('lo {"name": ') == ('lo {"name": ', [])
    assert reader.push("", is_last=True) == ("", [])
    assert not reader.is_call
    assert reader.message_parts() == {"tool_calls": [], "invalid_tool_calls": []}


def test_a_stop_string_cuts_a_text_and_no_call():
    reader, message = run(["Hello\nO", "bs"], stop=["\nObs"])
    assert (message.content, reader.is_stopped) == ("Hello", True)
    reader, message = run(["Hello\nO"], stop=["\nObs"])
    assert (message.content, reader.is_stopped) == ("Hello\nO", False)
    reader, message = run([CALL], stop=["name"])
    assert reader.is_call


@pytest.mark.parametrize("length", range(1, len(CALL)))
def test_a_call_that_was_cut_is_never_a_call(length):
    reader, message = run(cut_every(CALL[:length], 4))
    assert not reader.is_call
    assert message.tool_calls == []
    (invalid,) = message.invalid_tool_calls
    assert "the answer was cut at max_tokens=9" in invalid["args"]
    (reported,) = reader.message_parts()["invalid_tool_calls"]
    assert "raise max_tokens" in reported["error"]
    assert reader.message_parts()["tool_calls"] == []


def test_an_empty_answer_is_no_call():
    reader, message = run([""])
    assert (message.content, reader.is_call) == ("", False)


def test_of_two_calls_the_one_that_was_cut_is_invalid():
    reader, message = run([CALL + '\n{"name": "now", "argu'])
    assert [call["name"] for call in message.tool_calls] == ["add"]
    assert len(message.invalid_tool_calls) == 1
    assert not reader.is_call
    parts = reader.message_parts()
    assert (len(parts["tool_calls"]), len(parts["invalid_tool_calls"])) == (1, 1)


def test_calls_are_written_as_they_are_read():
    reader, _ = run([write_call('sü"ß', {"a": "ä\n"})])
    assert reader.message_parts()["tool_calls"][0]["args"] == {"a": "ä\n"}
    assert reader.calls[0].name == 'sü"ß'
