from __future__ import annotations

import pytest

from deepen_llm.errors import MemberTimeoutError, PromptError
from deepen_llm.requests.deadline import Deadline
from deepen_llm.requests.messages import encode_chat, fold_system, merge_neighbours
from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers as toys
from tests.chat_templates import TEMPLATES

NO_SYSTEM = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
WRITE = "{{ '<|im_start|>' + m.role + ' ' + m.content + '<|im_end|>' }}{% endfor %}"


def load(template):
    return Vocabulary.from_tokenizer(toys.byte_level_bpe(), name="toy", chat_template=template)


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


def test_a_developers_message_is_a_system_message():
    assert merge_neighbours(say(("developer", "a"), ("system", "b"), ("user", "c"))) == say(
        ("system", "a\n\nb"), ("user", "c")
    )


@pytest.mark.parametrize(
    ("template", "read"),
    [
        ("{% for m in messages %}" + WRITE, say(("system", "a"), ("user", "b"), ("system", "c"), ("user", "d"))),
        (
            NO_SYSTEM.replace("'system' %}", "'system' and not loop.first %}") + WRITE,
            say(("system", "a"), ("user", "b\n\nc\n\nd")),
        ),
        (NO_SYSTEM + WRITE, say(("user", "a\n\nb\n\nc\n\nd"))),
        ("{% for m in messages if m.role != 'system' %}" + WRITE, say(("user", "a\n\nb\n\nc\n\nd"))),
        (TEMPLATES["mistral"], say(("system", "a"), ("user", "b\n\nc\n\nd"))),
        (TEMPLATES["gemma"], say(("user", "a\n\nb\n\nc\n\nd"))),
        (TEMPLATES["blocks"], say(("system", "a"), ("user", "b"), ("system", "c"), ("user", "d"))),
    ],
    ids=["takes it", "only first", "refuses it", "leaves it out", "mistral", "gemma", "blocks"],
)
def test_a_system_message_is_never_lost(template, read):
    vocabulary = load(template)
    messages = say(("developer", "a"), ("user", "b"), ("system", "c"), ("user", "d"))
    assert encode_chat(vocabulary, messages).ids == vocabulary.encode_chat(read).ids


def test_a_template_that_takes_no_form_says_why_of_the_first():
    with pytest.raises(PromptError, match=r"refuses these messages: no system$"):
        encode_chat(load(NO_SYSTEM + "{{ 1/0 }}{% endfor %}"), say(("system", "a"), ("user", "b")))


def test_options_and_the_time_that_is_left_reach_the_template():
    vocabulary = load(TEMPLATES["qwen 3"])
    prompt = encode_chat(vocabulary, say(("user", "a")), chat_template_kwargs={"enable_thinking": False})
    assert prompt.text.endswith("</think>\n\n")
    with pytest.raises(MemberTimeoutError):
        encode_chat(vocabulary, say(("user", "a")), deadline=Deadline(0.0))
    assert encode_chat(vocabulary, say(("user", "a")), deadline=Deadline(60.0)) == encode_chat(
        vocabulary, say(("user", "a"))
    )
