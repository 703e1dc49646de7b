"""Answers that are calls, as messages: whole, in pieces, and cut, over a fake ensemble that says what it is told."""

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

from langchain_deepen import ChatDeepen

SAID = ['{"name": "add"', ', "arguments": {"a": ', "1", "}}"]


@tool
def add(a: int) -> int:
    """Add one."""
    return a + 1


@pytest.fixture
def chat(ensemble):
    return ChatDeepen(ensemble=ensemble, max_tokens=20)


def whole(pieces):
    return sum(pieces[1:], start=pieces[0])


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
    error = message.invalid_tool_calls[0]["error"]
    assert "cut at max_tokens=3 " in error and "before the call was whole: raise max_tokens" in error
    streamed = whole(list(bound.stream("1 + 1?")))
    assert (streamed.tool_calls, streamed.response_metadata["finish_reason"]) == ([], "length")
    assert "raise max_tokens" in streamed.invalid_tool_calls[0]["args"]


def test_every_piece_has_something_and_the_last_no_part_of_a_call(ensemble):
    ensemble.words = SAID
    for max_tokens in (3, 20):
        pieces = list(ChatDeepen(ensemble=ensemble, max_tokens=max_tokens).bind_tools([add]).stream("1 + 1?"))
        assert all(piece.tool_call_chunks for piece in pieces[:-1])
        assert (pieces[-1].tool_call_chunks, pieces[-1].chunk_position) == ([], "last")


async def test_events_of_version_3_hold_the_whole_call(chat, ensemble):
    ensemble.words = SAID
    bound = chat.bind_tools([add])
    stream = bound.stream_events("1 + 1?", version="v3")
    list(stream)
    astream = await bound.astream_events("1 + 1?", version="v3")
    async for _ in astream:
        pass
    for message in (stream.output, await astream.output):
        assert [call["args"] for call in message.tool_calls] == [{"a": 1}]
        assert message.response_metadata["finish_reason"] == "tool_calls"


def test_a_call_that_was_cut_says_why_in_events_of_version_3(ensemble):
    ensemble.words = SAID
    stream = ChatDeepen(ensemble=ensemble, max_tokens=3).bind_tools([add]).stream_events("1 + 1?", version="v3")
    list(stream)
    assert stream.output.tool_calls == []
    assert "raise max_tokens" in stream.output.invalid_tool_calls[0]["args"]


def test_content_blocks_of_version_1_hold_the_call(ensemble):
    ensemble.words = SAID
    bound = ChatDeepen(ensemble=ensemble, output_version="v1").bind_tools([add])
    for message in (bound.invoke("1 + 1?"), whole(list(bound.stream("1 + 1?")))):
        (block,) = [block for block in message.content_blocks if block["type"] == "tool_call"]
        assert (block["name"], block["args"]) == ("add", {"a": 1})
        assert message.tool_calls[0]["args"] == {"a": 1}
        assert message.text == ""


def test_n_answers_are_as_many_messages_with_calls_of_their_own(chat, ensemble):
    ensemble.words = SAID
    tools = chat.bind_tools([add]).kwargs
    (answers,) = chat.generate([[HumanMessage("1 + 1?")]], n=2, temperature=1.0, **tools).generations
    assert [len(answer.message.tool_calls) for answer in answers] == [1, 1]
