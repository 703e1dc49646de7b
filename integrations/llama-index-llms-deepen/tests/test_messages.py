"""Messages with tools in them, as chat templates take them."""

from __future__ import annotations

import pytest
from llama_index.core.base.llms.types import ImageBlock, TextBlock, ToolCallBlock
from llama_index.core.llms import ChatMessage

from llama_index.llms.deepen.errors import PromptRefusedError
from llama_index.llms.deepen.messages import read_messages, to_plain, with_request, with_system

HISTORY = [
    ChatMessage(role="user", content="1 plus 2?"),
    ChatMessage(
        role="assistant",
        blocks=[
            TextBlock(text="I add."),
            ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs={"a": 1, "b": 2}),
            ToolCallBlock(tool_call_id="c2", tool_name="look", tool_kwargs={}),
        ],
    ),
    ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "c1"}),
    ChatMessage(role="function", content="nothing", additional_kwargs={"tool_call_id": "c2"}),
    ChatMessage(role="tool", content="lost"),
]


def test_calls_are_told_as_the_models_write_them_and_results_by_their_tools_name():
    assert to_plain(read_messages(HISTORY)) == [
        {"role": "user", "content": "1 plus 2?"},
        {
            "role": "assistant",
            "content": 'I add.\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n{"name": "look", "arguments": {}}',
        },
        {"role": "user", "content": "Result of add: 3"},
        {"role": "user", "content": "Result of look: nothing"},
        {"role": "user", "content": "Result of the tool: lost"},
    ]


def test_dictionaries_with_role_and_content_are_messages():
    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"block_type": "text", "text": "Hi"}]},
    ]
    assert to_plain(read_messages(said)) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    assert to_plain(read_messages(({"role": "assistant", "content": None},))) == [{"role": "assistant", "content": ""}]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "messages must hold at least one message"),
        ("Hi", "messages must be a list of ChatMessage; got str"),
        (None, "messages must be a list of ChatMessage; got NoneType"),
        (ChatMessage("Hi"), "messages must be a list of ChatMessage; got ChatMessage"),
        ([ChatMessage("Hi"), "Hi"], "message 1 must be a ChatMessage, or a dictionary with role and content; got str"),
        ([{"role": "user", "text": "Hi"}], r"message 0 must have role and content; got \['role', 'text'\]"),
        ([{"role": "user", "content": "Hi", "name": "Ann"}], r"got \['content', 'name', 'role'\]: write ChatMessage"),
        ([{"role": "user", "content": 5}], "message 0: content must be a text or a list of blocks; got int"),
        ([{"role": "king", "content": "Hi"}], "message 0: role: Input should be 'system', .* got 'king'"),
        ([{"role": "user", "content": [{"type": "text"}]}], "message 0: blocks.0"),
        ([{"role": "user", "content": "Hi", "additional_kwargs": 5}], "message 0: additional_kwargs: .* got 5"),
    ],
)
def test_what_is_no_message_is_refused_by_its_position(messages, message):
    with pytest.raises(PromptRefusedError, match=message):
        read_messages(messages)


def test_a_block_without_text_is_no_line():
    call = ToolCallBlock(tool_call_id="c1", tool_name="look", tool_kwargs={})
    message = ChatMessage(role="assistant", blocks=[TextBlock(text=""), call, TextBlock(text="")])
    assert to_plain([message])[0]["content"] == '{"name": "look", "arguments": {}}'


def test_what_is_no_text_is_refused_with_its_place_and_its_type():
    messages = [*HISTORY[:1], ChatMessage(role="user", blocks=[ImageBlock(image=b"GIF89a"), TextBlock(text="?")])]
    with pytest.raises(
        PromptRefusedError, match=r"message 1 \(user\) must hold text only; got a block of type 'image': leave"
    ):
        read_messages(messages)


def test_words_for_the_system_join_its_message_or_come_first():
    user, system = ChatMessage(role="user", content="Hi"), ChatMessage(role="system", content="Be brief.")
    assert to_plain(with_system([user], "Tools:"))[0] == {"role": "system", "content": "Tools:"}
    joined = to_plain(with_system([system, user], "Tools:"))
    assert joined == [{"role": "system", "content": "Be brief.\nTools:"}, {"role": "user", "content": "Hi"}]
    assert system.content == "Be brief.", "the caller's message was changed"


def test_a_request_joins_the_users_last_message_or_comes_behind():
    user, assistant = ChatMessage(role="user", content="Hi"), ChatMessage(role="assistant", content="Hello")
    assert to_plain(with_request([user], "In JSON.")) == [{"role": "user", "content": "Hi\nIn JSON."}]
    assert to_plain(with_request([user, assistant], "In JSON."))[-1] == {"role": "user", "content": "In JSON."}
    assert user.content == "Hi", "the caller's message was changed"
