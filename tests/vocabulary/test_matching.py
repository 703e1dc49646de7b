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


def written(vocabularies, common):
    """The common entries as each vocabulary writes them."""
    return [{vocabulary.pieces[ids[at]] for ids in common} for at, vocabulary in enumerate(vocabularies)]


def test_special_and_byte_tokens_are_common_strings_and_special_ones_no_common_tokens():
    vocabularies = [load_toy("llama"), load_toy("unigram")]
    common = common_strings(vocabularies)
    first, second = written(vocabularies, common)
    assert first == second
    assert first >= {"<s>", "</s>", "[INST]", "<0x41>", "▁the"}
    assert common == sorted(common)
    assert not {vocabularies[0].pieces[ids[0]] for ids in common_tokens(vocabularies)} & {"<s>", "</s>", "[INST]"}


def test_the_same_text_in_two_notations_is_a_common_token_and_no_common_string():
    vocabularies = [load_toy("gpt2"), load_toy("llama")]
    assert {b" the", b"he"} <= {vocabularies[0].tokens[ids[0]] for ids in common_tokens(vocabularies)}
    first, second = written(vocabularies, common_strings(vocabularies))
    assert first == second
    assert "he" in first and not first & {"Ġthe", "▁the", " the"}


def test_common_strings_are_in_every_one_of_several_vocabularies():
    vocabularies = [load_toy(name) for name in ("gpt2", "llama", "unigram")]
    common = common_strings(vocabularies)
    expected = set.intersection(*({*vocabulary.pieces} for vocabulary in vocabularies)) - {None}
    assert written(vocabularies, common) == [expected] * 3
    assert sorted(ids[::-1] for ids in common) == common_strings(vocabularies[::-1])


def test_padding_is_no_common_string():
    tokenizer = toys.byte_level_bpe()
    padded = Vocabulary.from_tokenizer(tokenizer, name="toy", num_logits=len(tokenizer) + 5)
    assert common_strings([padded, padded]) == [(i, i) for i in range(len(tokenizer))]
    assert common_strings([padded]) == [(i,) for i in range(len(tokenizer))]
    assert common_strings([]) == []
