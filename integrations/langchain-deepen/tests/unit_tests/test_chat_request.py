"""What goes to the ensemble where an answer may be a call: what is told, what holds the answer, what is refused."""

import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool

from deepen_llm.errors import ConfigError, GrammarError
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


def test_the_system_message_tells_the_tools_and_the_grammar_holds_the_answer(chat, ensemble):
    chat.bind_tools([add]).invoke([SystemMessage("Be brief."), HumanMessage("1 + 1?")])
    (first, second, third) = ensemble.calls[0][1]
    assert (first["content"], third["content"]) == ("Be brief.", "1 + 1?")
    assert second["role"] == "system"
    assert '"add": Add one.' in second["content"]
    assert "TEXT" in ensemble.params.grammar
    chat.bind_tools([add], tool_choice="any").invoke("1 + 1?")
    assert "TEXT" not in ensemble.params.grammar


def test_tools_are_not_told_where_none_may_be_called(chat, ensemble):
    chat.bind_tools([add], tool_choice="none").invoke("Hello")
    assert ensemble.calls[0][1] == [{"role": "user", "content": "Hello"}]
    assert not ensemble.params.is_structured


def test_stop_cuts_a_text_and_never_a_call(ensemble):
    chat = ChatDeepen(ensemble=ensemble, stop=[" is"])
    message = chat.bind_tools([add]).invoke("Hello")
    assert (message.content, message.response_metadata["finish_reason"]) == ("The answer", "stop")
    assert ensemble.params.stop == ()
    assert r"\x{20}is" in ensemble.params.grammar
    assert whole(list(chat.bind_tools([add]).stream("Hello"))).content == "The answer"
    ensemble.words = SAID
    assert chat.bind_tools([add]).invoke("Hello", stop=["arg"]).tool_calls
    assert chat.bind_tools([add], tool_choice="any").invoke("Hello").tool_calls
    with pytest.raises(
        ConfigError, match=r"a tool call must not be cut; got stop=\['x'\] with a tool_choice that forces"
    ):
        chat.bind_tools([add], tool_choice="any").invoke("Hello", stop=["x"])


def test_tools_take_the_place_of_the_constructors_structure(ensemble):
    chat = ChatDeepen(ensemble=ensemble, regex="a+")
    chat.bind_tools([add]).invoke("Hello", stop=["x"])
    assert (ensemble.params.regex, "call_0" in ensemble.params.grammar) == (None, True)


def test_forms_that_contradict_each_other_are_refused(chat):
    with pytest.raises(ConfigError, match="an answer has one structure; got tools and regex: give one of them"):
        chat.bind_tools([add]).invoke("Hello", regex="a")
    with pytest.raises(ConfigError, match="tool_choice='any' needs tools to choose from"):
        chat.invoke("Hello", tool_choice="any")
    with pytest.raises(ConfigError, match="response_format must be"):
        chat.invoke("Hello", response_format={"type": "xml"})


def test_bind_tools_refuses_at_once(chat):
    odd = {"title": "odd", "type": "object", "properties": {"x": {"not": {"type": "string"}}}}
    with pytest.raises(GrammarError, match="the arguments of tool 'odd'"):
        chat.bind_tools([add, odd])
    with pytest.raises(ConfigError, match="got 'sub': the tools are add"):
        chat.bind_tools([add], tool_choice="sub")
    with pytest.raises(ConfigError, match="ChatDeepen has no option 'temprature'"):
        chat.bind_tools([add], temprature=1)
