from __future__ import annotations

from itertools import accumulate, combinations

import pytest
from hypothesis import given, settings

from deepen_llm.compatibility.agreement import Agreement, comparable_texts, token_ends
from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers as toys
from tests.vocabularies import LOSSLESS, TEXTS, load_real, load_toy, mixed_texts

STORY = "Once upon a time there was a little girl named Lily."


def test_the_ends_are_those_of_the_tokens_bytes_without_the_last():
    vocabulary = load_toy("tiktoken")
    assert [vocabulary.tokens[i] for i in vocabulary.encode("the world é")] == [
        b"the",
        b" w",
        b"or",
        b"ld",
        b" ",
        "é".encode(),
    ]
    assert token_ends(vocabulary, "the world é") == {3, 5, 7, 9, 10}


@pytest.mark.parametrize("name", ["llama", "llama, first", "unigram"])
def test_a_dummy_space_moves_no_end(name):
    vocabulary = load_toy(name)
    ids = vocabulary.encode(STORY)
    assert vocabulary.join(ids) == b" " + STORY.encode()
    ends = [end - 1 for end in accumulate(len(vocabulary.tokens[token_id]) for token_id in ids)]
    assert ends[-1] == len(STORY)
    assert token_ends(vocabulary, STORY) == {end for end in ends[:-1] if end > 0}


def test_a_space_of_the_text_itself_is_no_dummy_space():
    vocabulary = load_toy("gpt2")
    assert vocabulary.join(vocabulary.encode(" the dog")) == b" the dog"
    assert max(token_ends(vocabulary, " the dog")) < len(" the dog")
    assert token_ends(vocabulary, " the dog") == {4}


def test_ends_inside_a_character_count():
    vocabulary = load_toy("llama")
    text = "ab🙂cd"
    assert {3, 4, 5} <= token_ends(vocabulary, text), "the bytes of the emoji are tokens of their own"


def test_characters_that_are_unknown_do_not_move_the_ends_after_them():
    vocabulary = load_toy("llama without bytes")
    known, unknown = "the dog a the lazy dog", "the dog 🙂 the lazy dog"
    assert vocabulary.can_express(known) and not vocabulary.can_express(unknown)
    after = len("the dog 🙂")
    ends = {len(known[:end]) for end in token_ends(vocabulary, known) if end > after}
    assert {end - 3 for end in token_ends(vocabulary, unknown) if end - 3 > after} == ends, "🙂 has four bytes, a one"


@pytest.mark.parametrize("text", ["", "a"])
def test_a_text_too_short_to_be_cut_has_no_ends_and_nobody_disagrees(text):
    vocabulary = load_toy("tiktoken")
    assert token_ends(vocabulary, text) == set()
    agreement = Agreement.over(vocabulary, vocabulary, [text])
    assert (agreement.share_of_first, agreement.share_of_second, agreement.least_share) == (1.0, 1.0, 1.0)


def test_shares_worked_out_by_hand():
    coarse, fine = load_toy("tiktoken"), Vocabulary.from_tokenizer(toys.byte_level_bpe(size=256), name="bytes")
    # "the| w|or|ld" ends at 3, 5, 7; byte by byte, at 1 to 8.
    agreement = Agreement.over(coarse, fine, ["the world"])
    assert agreement == Agreement(num_first=3, num_second=8, num_shared=3)
    assert agreement.share_of_first == 1.0
    assert agreement.share_of_second == agreement.least_share == 3 / 8


def test_several_texts_add_up_and_their_borders_are_no_ends():
    coarse, fine = load_toy("tiktoken"), Vocabulary.from_tokenizer(toys.byte_level_bpe(size=256), name="bytes")
    assert Agreement.over(coarse, fine, ["the world", "the"]) == Agreement(3, 10, 3)
    assert Agreement.over(coarse, fine, []) == Agreement(0, 0, 0)


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_vocabulary_agrees_with_itself(name):
    vocabulary = load_toy(name)
    agreement = Agreement.over(vocabulary, vocabulary, TEXTS.values())
    assert agreement.num_first > 100
    assert agreement.least_share == 1.0


@pytest.mark.parametrize(("a", "b"), list(combinations(("gpt2", "llama", "unigram"), 2)))
def test_who_is_first_only_swaps_the_shares(a, b):
    there = Agreement.over(load_toy(a), load_toy(b), TEXTS.values())
    back = Agreement.over(load_toy(b), load_toy(a), TEXTS.values())
    assert (there.share_of_first, there.share_of_second) == (back.share_of_second, back.share_of_first)
    assert there.least_share == back.least_share < 1.0


@settings(deadline=None)
@given(mixed_texts())
def test_every_end_lies_inside_the_text(text):
    for name in ("gpt2", "llama", "unigram without bytes", "tiktoken"):
        assert all(0 < end < len(text.encode()) for end in token_ends(load_toy(name), text)), name


def test_of_a_text_that_one_cannot_express_the_lines_that_both_can_are_compared():
    every, some = load_toy("llama"), load_toy("llama without bytes")
    texts = ["the dog and the fox", "the lazy dog\n🙂 🙂\nthe capital of France"]
    assert comparable_texts((every, some), texts) == ["the dog and the fox", "the lazy dog", "the capital of France"]
    assert comparable_texts((every, every), texts) == texts
    assert comparable_texts((every, some), ["🙂"]) == []


def test_a_member_without_newlines_is_compared_line_by_line():
    characters, pieces = load_real("babyllama-tok105"), load_real("stories260K")
    texts = comparable_texts((pieces, characters), ["She saw a cat.\nIt ran."])
    assert texts == ["She saw a cat.", "It ran."]
    agreement = Agreement.over(pieces, characters, texts)
    assert agreement.share_of_first == 1.0
    assert agreement.share_of_second < 0.7
