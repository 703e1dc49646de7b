"""LangChain messages to dictionaries: what is text goes through, everything else is refused by name."""

import pytest
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

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


def test_tool_messages_and_tool_calls_are_refused():
    with pytest.raises(PromptError, match="message 0 must be from the system, the user or the assistant; got ToolMess"):
        read_messages([ToolMessage("4", tool_call_id="1")])
    call = {"name": "add", "args": {}, "id": "1", "type": "tool_call"}
    with pytest.raises(PromptError, match=r"message 0 \(ai\) holds tool calls"):
        read_messages([AIMessage("", tool_calls=[call])])


def test_an_unknown_role_is_refused():
    with pytest.raises(PromptError, match="got a message of role 'judge'"):
        read_messages([ChatMessage("x", role="judge")])
