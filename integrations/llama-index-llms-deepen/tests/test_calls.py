"""Tool calls in the text of an answer."""

from __future__ import annotations

import json

import pytest
from llama_index.core.base.llms.types import LogProb, ToolCallBlock
from llama_index.core.llms import ChatMessage, ChatResponse

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError
from deepen_llm.frontends.tools import read_tools, write_call
from llama_index.llms.deepen.calls import ToolAnswer, selections, text_of

ADD = '{"name": "add", "arguments": {"a": 1, "b": 2}}'


def _response(text, **fields):
    return ChatResponse(message=ChatMessage(role="assistant", content=text), **fields)


def _answer(**params):
    tools = read_tools([{"type": "function", "function": {"name": "add"}}])
    return ToolAnswer(SamplingParams(max_new_tokens=9, **params), tools)


def test_what_is_written_is_read_again():
    text = "\n".join([write_call("add", {"a": 1, "b": 2}), write_call('say "ü"', '{"what": "a\\nb"}')])
    assert text.split("\n")[0] == ADD
    first, second = selections(_answer().whole(_response(text)))
    assert (first.tool_name, first.tool_kwargs) == ("add", {"a": 1, "b": 2})
    assert (second.tool_name, second.tool_kwargs) == ('say "ü"', {"what": "a\nb"})
    assert first.tool_id != second.tool_id


def test_a_call_that_was_cut_is_an_error_that_names_the_limit():
    with pytest.raises(
        ConfigError, match=r"must be whole; got '\{\"name\": .*cut at max_tokens=9 .*: raise max_tokens"
    ):
        _answer().whole(_response(ADD[:-4]))


def test_a_text_stays_a_text():
    response = _answer().whole(_response('No { "call"', raw={"usage": 1}))
    assert (response.delta, response.raw) == (None, {"usage": 1})
    assert selections(response) == []
    assert text_of(response) == 'No { "call"'


@pytest.mark.parametrize("delta", [None, ADD])
def test_calls_are_blocks_and_no_text(delta):
    response = _answer().whole(_response(ADD, delta=delta, raw={"usage": 1}))
    assert text_of(response) == "" and not response.message.content
    assert (response.delta, response.raw) == (delta and "", {"usage": 1})
    (selection,) = selections(response)
    assert (selection.tool_name, selection.tool_kwargs) == ("add", {"a": 1, "b": 2})
    (listed,) = json.loads(json.dumps(response.message.additional_kwargs["tool_calls"]))
    assert listed == {"id": selection.tool_id, "name": "add", "arguments": {"a": 1, "b": 2}}


def _stream(answer, pieces):
    """What a stream gives away: the text so far and the new one, by piece."""
    responses = [_response("", delta=piece) for piece in pieces] + [_response("", delta="", raw={"finish_reason": "x"})]
    read = [answer.piece(response) for response in responses]
    return [one and (one.message.content, one.delta) for one in read], read[-1]


def test_a_stream_gives_text_as_it_comes_and_cuts_it_at_a_stop_string():
    given, _ = _stream(_answer(), ["A", "", " b"])
    assert given == [("A", "A"), None, ("A b", " b"), ("A b", "")]
    given, _ = _stream(_answer(stop=["\nObs"]), ["A\nO", "b", "s"])
    assert given == [("A", "A"), None, None, ("A", "")]
    given, _ = _stream(_answer(stop=["\nObs"]), ["A\nO", "b"])
    assert given == [("A", "A"), None, ("A\nOb", "\nOb")]
    assert _answer(stop=["b"]).whole(_response("a b")).message.content == "a "


def test_a_stream_gives_calls_when_they_are_whole():
    given, last = _stream(_answer(stop=["add"]), [ADD[:9], ADD[9:]])
    assert given[:-1] == [None, None]
    assert [one.tool_kwargs for one in selections(last)] == [{"a": 1, "b": 2}]
    with pytest.raises(ConfigError, match=r"got '\{\"name\": .*raise max_tokens"):
        _stream(_answer(), [ADD[:9], ADD[9:12]])


def test_log_probabilities_come_though_their_text_is_held_back():
    held = _response("", delta="b", logprobs=[[LogProb(token="b", logprob=-1.0)]])
    assert _answer(stop=["bc"]).piece(held).logprobs == held.logprobs


def test_arguments_of_another_llms_message_may_be_json():
    block = ToolCallBlock(tool_name="add", tool_kwargs='{"a": 1}')
    (selection,) = selections(ChatResponse(message=ChatMessage(role="assistant", blocks=[block])))
    assert (selection.tool_id, selection.tool_kwargs) == ("", {"a": 1})
