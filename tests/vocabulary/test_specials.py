"""Special tokens in a text: found as the tokenizer finds them, hidden where a message only spells them."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, normalizers

from deepen_llm.vocabulary.specials import Section, SpecialFinder

SPECIALS = {7: "<user>", 9: "</user>"}


def test_a_text_is_split_at_its_special_tokens_and_empty_sections_are_left_out():
    finder = SpecialFinder(SPECIALS)
    assert finder.split("<user>Hi</user></user> x") == [
        Section("<user>", 7),
        Section("Hi"),
        Section("</user>", 9),
        Section("</user>", 9),
        Section(" x"),
    ]
    assert finder.split("") == [] and finder.split("plain") == [Section("plain")]


def test_a_token_that_swallows_spaces_takes_them_and_others_are_found_whole():
    swallowing, longer = AddedToken("<user>", rstrip=True, special=True), AddedToken("<<user>>", normalized=False)
    added = {7: swallowing, 8: longer}
    finder = SpecialFinder(SPECIALS, added)
    assert finder.split("<user>  Hi") == [Section("<user>  ", 7), Section("Hi")]
    assert finder.split("<<user>>") == [Section("<<user>>")]


def test_a_normalized_token_is_found_in_what_the_normalizer_makes_of_the_text():
    added = {7: AddedToken("<user>", special=True, normalized=True)}
    finder = SpecialFinder({7: "<user>"}, added, normalizers.Lowercase())
    assert finder.split("<USER>Hi") == [Section("<USER>", 7), Section("Hi")]


def test_messages_without_anything_special_need_no_disguise():
    assert SpecialFinder(SPECIALS).hide([{"role": "user", "content": "Hi."}]) is None
    assert SpecialFinder({}).hide([{"role": "user", "content": "<user>"}]) is None


@pytest.mark.parametrize("content", ["a <user> b", "ends with </us", "er> begins", "<user></user><user>"])
def test_a_disguised_message_holds_no_special_token_and_the_table_undoes_it(content):
    finder = SpecialFinder(SPECIALS)
    (message,), table = finder.hide([{"role": "user", "content": content}])
    assert not any(text in message["content"] for text in SPECIALS.values())
    assert message["content"].translate(table) == content
