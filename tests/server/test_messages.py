"""Messages as clients send them, as the roles and texts that templates take."""

from __future__ import annotations

import pytest

from deepen_llm.server.messages import read_messages
from deepen_llm.server.refusals import RefusedError

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def test_roles_and_texts_stay_and_a_developer_is_the_system():
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Hi", "name": "Anna"},
        {"role": "assistant", "content": "Ho"},
    ]
    assert read_messages(messages) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
    ]


def test_parts_of_text_are_joined():
    parts = [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}, {"type": "refusal", "refusal": "c"}]
    assert read_messages([{"role": "user", "content": parts}]) == [{"role": "user", "content": "abc"}]


def test_calls_and_their_results_are_told_in_words():
    messages = [
        {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "unknown", "content": "2"},
    ]
    assert [message["content"] for message in read_messages(messages)] == [
        'Let me see.\n{"name": "add", "arguments": {"a": 1}}',
        "Result of add: 1",
        "Result of the tool: 2",
    ]


@pytest.mark.parametrize("first", ["system", "user"])
def test_words_of_the_system_come_after_its_own(first):
    read = read_messages([{"role": first, "content": "a"}, {"role": "user", "content": "b"}], "words")
    assert read.index({"role": "system", "content": "words"}) == (1 if first == "system" else 0)


BAD = {
    "no role": ({"content": "a"}, "messages[0]"),
    "a role of others": ({"role": "wizard", "content": "a"}, "messages[0]"),
    "no mapping": ("hi", "messages[0]"),
    "no content": ({"role": "user"}, "messages[0].content"),
    "a number": ({"role": "user", "content": 3}, "messages[0].content"),
    "an image": ({"role": "user", "content": [{"type": "image_url"}]}, "messages[0].content[0]"),
    "a part that is none": ({"role": "user", "content": ["a"]}, "messages[0].content[0]"),
    "a text that is none": ({"role": "user", "content": [{"type": "text", "text": 1}]}, "messages[0].content[0]"),
    "an old call": ({"role": "assistant", "function_call": {}}, "messages[0].function_call"),
    "calls that are none": ({"role": "assistant", "tool_calls": {}}, "messages[0].tool_calls"),
    "a call without a name": ({"role": "assistant", "tool_calls": [{}]}, "messages[0].tool_calls"),
    "arguments that are no text": (
        {"role": "assistant", "tool_calls": [{"function": {"name": "a", "arguments": {}}}]},
        "messages[0].tool_calls",
    ),
}


@pytest.mark.parametrize(("message", "param"), BAD.values(), ids=BAD)
def test_what_is_no_message_is_refused_by_its_place(message, param):
    with pytest.raises(RefusedError) as caught:
        read_messages([message])
    assert (caught.value.param, caught.value.status) == (param, 400)
