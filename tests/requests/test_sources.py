from __future__ import annotations

import pytest

from deepen_llm.members.guarded import GuardedMember
from deepen_llm.requests.deadline import Deadline
from deepen_llm.requests.sources import Written, encode_for_all
from deepen_llm.testing import ScriptedMember
from deepen_llm.vocabulary import EncodedText
from tests.test_encoder_decoder import ScriptedTranslator
from tests.vocabularies import load_toy


def encode(text, main=0, source=None, opens_with_space=False):
    """A prompt, given as it is in a template, for a member that continues it and one that reads it."""
    members = [GuardedMember(ScriptedMember(load_toy("gpt2"), [])), GuardedMember(ScriptedTranslator([]))]
    prompt = EncodedText((5,), 0, text, opens_with_space=opens_with_space)
    return encode_for_all(members, main, Written([text], text or "x", source), lambda _: prompt, Deadline(None))


@pytest.mark.parametrize("main", [0, 1])
@pytest.mark.parametrize("text", ["Answer:", "one two", "is (it)", "it's", 'He said "yes"', "->"])
def test_an_answer_that_continues_such_a_text_begins_with_a_space(text, main):
    assert [prompt.at_start for prompt in encode(text, main)] == [True, False]


@pytest.mark.parametrize("main", [0, 1])
@pytest.mark.parametrize("text", ["", "Answer:\n", "Answer: ", 'In French: "', "say (", "«", "答案：", "日本語", "**"])
def test_after_such_a_text_it_begins_at_once(text, main):
    assert [prompt.at_start for prompt in encode(text, main)] == [True, True]


def test_where_a_template_has_put_the_space_already_it_begins_at_once():
    assert encode("Assistant:", opens_with_space=True)[1].at_start


def test_each_member_has_its_own_prompt_in_their_order():
    continued, read = encode("one two", source="three")
    assert (continued.source_ids, read.ids, read.contents) == ((), (0,), ("one two",))
    assert load_toy("t5").join(read.source_ids) == b" three"


def test_alone_an_answer_begins_as_a_text():
    members = [GuardedMember(ScriptedTranslator([]))]
    [prompt] = encode_for_all(members, 0, Written(["Answer:"], "Answer:"), pytest.fail, Deadline(None))
    assert prompt.at_start
