"""LangChain messages to dictionaries: what is text goes through, everything else is refused by name."""

import pytest
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
)

from deepen_llm.errors import PromptError
from langchain_deepen.messages import read_messages


def test_roles_are_those_of_chat_templates():
    messages = [SystemMessage("s"), HumanMessage("u", name="Zorvek"), AIMessage("a"), ChatMessage("c", role="user")]
    assert read_messages(messages) == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "c"},
    ]


def test_blocks_of_text_are_joined():
    message = HumanMessage([{"type": "text", "text": "Where"}, " is ", {"type": "text", "text": "it?"}])
    assert read_messages([message]) == [{"role": "user", "content": "Where is it?"}]


@pytest.mark.parametrize("kind", ["image_url", "image", "audio", "file", "reasoning"])
def test_other_blocks_are_refused_by_name(kind):
    messages = [SystemMessage("s"), HumanMessage([{"type": "text", "text": "See"}, {"type": kind, kind: "x"}])]
    with pytest.raises(PromptError, match=rf"message 1 \(human\) must hold text only; got a block of type '{kind}'"):
        read_messages(messages)


CALL = {"name": "add", "args": {"a": 1}, "id": "1", "type": "tool_call"}


def test_calls_and_results_are_put_in_words():
    messages = [
        HumanMessage("1 + 2?"),
        AIMessage("Let me see.", tool_calls=[CALL, {**CALL, "args": {"a": "ä"}, "id": "2"}]),
        ToolMessage("3", tool_call_id="1"),
        ToolMessage([{"type": "text", "text": "no b"}], tool_call_id="2", status="error", name="plus"),
        ToolMessage("4", tool_call_id="9"),
    ]
    assert read_messages(messages)[1:] == [
        {
            "role": "assistant",
            "content": 'Let me see.\n{"name": "add", "arguments": {"a": 1}}\n{"name": "add", "arguments": {"a": "ä"}}',
        },
        {"role": "user", "content": "Result of add: 3"},
        {"role": "user", "content": "Error of plus: no b"},
        {"role": "user", "content": "Result of the tool: 4"},
    ]


def test_a_call_that_was_cut_is_told_as_it_was():
    cut = {"name": "add", "args": '{"a": ', "id": "1", "error": "cut", "type": "invalid_tool_call"}
    told = read_messages([HumanMessage("?"), AIMessage("", invalid_tool_calls=[cut])])
    assert told[1]["content"] == '{"name": "add", "arguments": {"a": '


def test_blocks_that_repeat_the_calls_are_passed_over():
    block = {"type": "tool_use", "id": "1", "name": "add", "input": {"a": 1}}
    message = AIMessage([{"type": "text", "text": "So:"}, block], tool_calls=[CALL])
    assert read_messages([message])[0]["content"] == 'So:\n{"name": "add", "arguments": {"a": 1}}'
    with pytest.raises(PromptError, match=r"message 0 \(human\) must hold text only; got a block of type 'tool_use'"):
        read_messages([HumanMessage([block])])


def test_instructions_are_the_systems_and_come_behind_its_own():
    instructed = read_messages([SystemMessage("s"), HumanMessage("u")], "Tools: none.")
    assert [one["content"] for one in instructed] == ["s", "Tools: none.", "u"]
    assert read_messages([HumanMessage("u")], "Tools: none.")[0] == {"role": "system", "content": "Tools: none."}
    assert read_messages([], "Tools: none.") == []


def test_a_developer_is_the_system():
    told = [
        ChatMessage("Be brief.", role="developer"),
        *convert_to_messages([{"role": "developer", "content": "Too."}]),
    ]
    assert [message["role"] for message in read_messages(told)] == ["system", "system"]
    instructed = read_messages([told[0], HumanMessage("u")], "Tools: none.")
    assert [one["content"] for one in instructed] == ["Be brief.", "Tools: none.", "u"]


def test_a_functions_result_is_told_as_a_tools():
    assert read_messages([FunctionMessage("3", name="add")]) == [{"role": "user", "content": "Result of add: 3"}]


def test_a_message_that_says_nothing_to_a_model_is_refused():
    with pytest.raises(PromptError, match=r"message 1 must be from the system, .*; got RemoveMessage"):
        read_messages([HumanMessage("Hi"), RemoveMessage(id="1")])


def test_an_unknown_role_is_refused():
    with pytest.raises(PromptError, match="got a message of role 'judge'"):
        read_messages([ChatMessage("x", role="judge")])
