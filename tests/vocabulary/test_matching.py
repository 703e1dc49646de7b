from __future__ import annotations

import pytest

from deepen_llm.vocabulary import Vocabulary, common_strings, common_tokens
from tests import toy_tokenizers as toys
from tests.vocabularies import load_real, load_toy

NUM_COMMON = {
    ("qwen2", "o200k"): 98_863,
    ("qwen2", "dolma2"): 99_156,
    ("qwen2", "gpt2"): 42_256,
    ("qwen2", "neox20b"): 40_826,
    ("qwen2", "mistral-v3"): 29_234,
    ("o200k", "mistral-v3"): 29_864,
    ("gpt2", "neox20b"): 36_937,
    ("gpt2", "mistral-v3"): 21_240,
    ("neox20b", "mistral-v3"): 25_055,
}


@pytest.mark.parametrize("pair", NUM_COMMON, ids="-".join)
def test_real_vocabularies_share_as_many_tokens_as_is_known(pair):
    left, right = map(load_real, pair)
    common = common_tokens([left, right])
    assert len(common) == NUM_COMMON[pair]
    assert all(left.tokens[a] == right.tokens[b] is not None for a, b in common)
    assert len({a for a, _ in common}) == len({b for _, b in common}) == len(common)


def test_common_tokens_come_in_the_order_of_the_first_vocabulary_and_without_specials():
    vocabularies = [load_toy(name) for name in ("gpt2", "llama", "unigram")]
    common = common_tokens(vocabularies)
    assert common == sorted(common)
    assert common == common_tokens(vocabularies)
    tokens = [
        {vocabulary.tokens[i] for i in ids}
        for vocabulary, ids in zip(vocabularies, zip(*common, strict=True), strict=True)
    ]
    expected = set.intersection(*({*vocabulary.tokens} - {None} for vocabulary in vocabularies))
    assert tokens == [expected] * 3
    assert sorted(ids[::-1] for ids in common) == common_tokens(vocabularies[::-1])


def test_of_two_tokens_with_the_same_bytes_the_one_that_the_tokenizer_makes_counts():
    llama = load_toy("llama")
    token_id = llama.ids_by_token[b"e"]
    assert [token_id] == llama.encode("e", at_start=False)
    assert llama.byte_ids[ord("e")] != token_id
    tokenizer = toys.byte_level_bpe()
    piece = tokenizer.convert_tokens_to_ids("Ġthe")
    tokenizer.add_tokens([" the"])
    vocabulary = Vocabulary.from_tokenizer(tokenizer, name="toy")
    assert [vocabulary.ids_by_token[b" the"]] == vocabulary.encode(" the") == [len(tokenizer) - 1]
    assert vocabulary.tokens[piece] == b" the"


def test_no_vocabularies_share_nothing_and_one_shares_all_it_has():
    assert common_tokens([]) == []
    gpt2 = load_toy("gpt2")
    assert common_tokens([gpt2]) == [(i,) for i, token in enumerate(gpt2.tokens) if token is not None]


def test_common_strings_are_compared_as_the_vocabularies_write_them():
    gpt2, llama = load_toy("gpt2"), load_toy("llama")
    common = common_strings([gpt2, llama])
    assert common == sorted(common)
    assert all(gpt2.pieces[a] == llama.pieces[b] is not None for a, b in common)
    assert {gpt2.pieces[a] for a, _ in common} == {*gpt2.pieces} & {*llama.pieces} - {None}
    spaced = [gpt2.ids_by_token[b" the"], llama.ids_by_token[b" the"]]
    assert [gpt2.pieces[spaced[0]], llama.pieces[spaced[1]]] == ["Ġthe", "▁the"]
    assert tuple(spaced) in common_tokens([gpt2, llama])
    assert spaced[0] not in {a for a, _ in common} and spaced[1] not in {b for _, b in common}


def test_common_strings_hold_special_and_byte_tokens_and_common_tokens_do_not():
    llama, unigram = load_toy("llama"), load_toy("unigram")
    pieces = {llama.pieces[a] for a, _ in common_strings([llama, unigram])}
    assert {"<s>", "</s>", "<unk>", "<0x41>"} <= pieces
    specials = {llama.pieces.index(piece) for piece in ("<s>", "</s>", "<unk>")}
    assert not specials & {a for a, _ in common_tokens([llama, unigram])}


def test_common_strings_of_three_are_in_all_of_them_and_padding_in_none():
    padded = Vocabulary.from_tokenizer(toys.byte_level_bpe(), name="padded", num_logits=len(load_toy("gpt2")) + 5)
    vocabularies = [padded, load_toy("cl100k"), load_toy("byte-level with a prefix space")]
    common = common_strings(vocabularies)
    shared = set.intersection(*({*vocabulary.pieces} - {None} for vocabulary in vocabularies))
    assert {padded.pieces[ids[0]] for ids in common} == shared and len(common) == len(shared) > 0
    assert not padded.padded_ids & {ids[0] for ids in common}
    assert sorted(ids[::-1] for ids in common) == common_strings(vocabularies[::-1])


def test_strings_of_no_vocabularies_and_of_one():
    assert common_strings([]) == []
    gpt2 = load_toy("gpt2")
    assert common_strings([gpt2]) == [(i,) for i, piece in enumerate(gpt2.pieces) if piece is not None]
