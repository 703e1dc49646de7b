"""The table of tokens: what is read of each kind of tokenizer, one entry per logit."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken

from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers as toys
from tests.vocabularies import REAL, TOYS, load_real, load_real_tokenizer, load_toy


@pytest.mark.parametrize("name", [name for name in TOYS if name != "tiktoken"])
def test_every_token_is_kept_as_the_tokenizer_writes_it(name):
    tokenizer = TOYS[name]()
    assert load_toy(name).pieces == tuple(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))


@pytest.mark.parametrize("name", REAL)
def test_every_token_of_a_real_tokenizer_is_kept_as_it_is_written(name):
    vocabulary, written = load_real(name), load_real_tokenizer(name).get_vocab()
    assert {piece: i for i, piece in enumerate(vocabulary.pieces) if piece is not None} == written


def test_special_added_and_byte_tokens_have_a_piece_and_padding_has_none():
    tokenizer = toys.sentencepiece_bpe()
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    size = len(tokenizer)
    vocabulary = Vocabulary.from_tokenizer(tokenizer, name="toy", num_logits=size + 3)
    assert len(vocabulary.pieces) == len(vocabulary)
    assert vocabulary.pieces[size - 1 :] == ("<think>", None, None, None)
    assert {"<s>", "</s>", "[INST]", "<0x41>", "▁the"} <= {*vocabulary.pieces}
    assert vocabulary.pieces[vocabulary.byte_ids[0x41]] == "<0x41>"


def test_a_python_tokenizers_pieces_are_its_vocabulary_as_strings():
    tokenizer, vocabulary = toys.BytesTokenizer(), load_toy("tiktoken")
    assert vocabulary.pieces == tuple(map(str, tokenizer.get_vocab()))
    assert vocabulary.pieces[-1] == "<|endoftext|>"
    assert vocabulary.tokens[256] == b"the" and vocabulary.pieces[256] == "b'the'"
