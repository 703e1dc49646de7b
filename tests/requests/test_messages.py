from __future__ import annotations

import pytest

from deepen_llm.errors import PromptError
from deepen_llm.requests.messages import encode_chat, fold_system, merge_neighbours


def say(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


def test_neighbours_of_one_role_are_joined():
    merged = merge_neighbours(
        say(("system", "a"), ("system", "b"), ("user", "c"), ("assistant", "d"), ("user", "e"), ("user", "f"))
    )
    assert merged == say(("system", "a\n\nb"), ("user", "c"), ("assistant", "d"), ("user", "e\n\nf"))


def test_a_system_message_goes_before_the_first_user_message():
    assert fold_system(say(("system", "a"), ("user", "b"), ("assistant", "c"))) == say(
        ("user", "a\n\nb"), ("assistant", "c")
    )


@pytest.mark.parametrize(
    ("messages", "folded"),
    [
        (say(("user", "a")), say(("user", "a"))),
        (say(("system", "a")), say(("user", "a"))),
        (say(("system", "a"), ("assistant", "b")), say(("user", "a"), ("assistant", "b"))),
        (say(("user", "a"), ("system", "b"), ("user", "c")), say(("user", "a\n\nb\n\nc"))),
        (
            say(("user", "a"), ("assistant", "b"), ("system", "c"), ("user", "d")),
            say(("user", "a"), ("assistant", "b"), ("user", "c\n\nd")),
        ),
    ],
)
def test_a_system_message_is_told_by_the_user_wherever_it_stands(messages, folded):
    assert fold_system(messages) == folded


def test_a_leading_system_message_may_stay_where_later_ones_do_not():
    messages = say(("system", "a"), ("user", "b"), ("system", "c"))
    assert fold_system(messages, first=1) == say(("system", "a"), ("user", "b\n\nc"))


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "at least one message"),
        ([{"role": "user"}], "content"),
        ([{"role": "user", "content": 3}], "must be a string"),
    ],
)
def test_messages_that_are_none_are_refused(messages, message):
    with pytest.raises(PromptError, match=message):
        merge_neighbours(messages)


def test_a_template_that_refuses_a_system_message_reads_it_with_the_users(vocabularies):
    messages = say(("system", "a"), ("system", "b"), ("user", "c"))
    for kind, read in (("bpe", merge_neighbours(messages)), ("sentencepiece", say(("user", "a\n\nb\n\nc")))):
        assert encode_chat(vocabularies[kind], messages) == vocabularies[kind].encode_chat(read)
    with pytest.raises(PromptError):
        encode_chat(vocabularies["bpe"], [])
