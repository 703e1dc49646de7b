"""The parts of a tokenizer as JSON, and what changes in them for plain text and for text that continues other text."""

from __future__ import annotations

import pytest
from tokenizers import models, normalizers, pre_tokenizers

from deepen_llm.vocabulary.parts import (
    assemble,
    break_byte_pieces,
    can_produce,
    continue_text,
    describe_part,
    keep_spaces,
    read_prefix_scheme,
    silence,
    walk_parts,
)

SEQUENCE = normalizers.Sequence([normalizers.NFC(), normalizers.Prepend("▁")])


def make_bpe(dropout=None):
    vocab = {"<": 0, "s": 1, ">": 2, "<s": 3, "<s>": 4, "a": 5}
    return models.BPE(vocab, [("<", "s"), ("<s", ">")], dropout=dropout)


def test_a_part_is_described_with_all_that_is_inside_it():
    assert describe_part(None) is None and list(walk_parts(None)) == []
    described = describe_part(SEQUENCE)
    assert [part["type"] for part in walk_parts(described)] == ["Sequence", "NFC", "Prepend"]


def test_text_that_continues_other_text_gets_no_dummy_space_and_keeps_its_own():
    assert continue_text(None) is None
    assert continue_text(describe_part(normalizers.Prepend("▁"))) is None
    assert [part["type"] for part in walk_parts(continue_text(describe_part(SEQUENCE)))] == ["Sequence", "NFC"]
    metaspace = continue_text(describe_part(pre_tokenizers.Metaspace(prepend_scheme="always")))
    assert metaspace["prepend_scheme"] == "never"
    assert continue_text(describe_part(pre_tokenizers.ByteLevel(add_prefix_space=True)))["add_prefix_space"] is False
    strip = continue_text(describe_part(normalizers.Strip(left=True, right=True)))
    assert (strip["strip_left"], strip["strip_right"]) == (False, True)


@pytest.mark.parametrize(
    ("part", "scheme"),
    [
        (SEQUENCE, "always"),
        (normalizers.NFC(), "never"),
        (normalizers.Prepend("x"), "never"),
        (pre_tokenizers.Metaspace(prepend_scheme="first"), "first"),
        (pre_tokenizers.Metaspace(prepend_scheme="never"), "never"),
        (pre_tokenizers.ByteLevel(add_prefix_space=True), "always"),
        (pre_tokenizers.ByteLevel(add_prefix_space=False), "never"),
    ],
)
def test_which_texts_get_a_dummy_space_is_read_from_the_parts(part, scheme):
    assert read_prefix_scheme(list(walk_parts(describe_part(part)))) == scheme


def test_a_model_produces_a_piece_only_if_the_pieces_own_text_becomes_it():
    model = make_bpe()
    assert can_produce(model, "<s>", 4)
    assert not can_produce(model, "<s>", 3)
    assert not can_produce(model, "none", None)
    assert not can_produce(models.BPE({"a": 0, "b": 1, "ab": 2}, []), "ab", 2)


def test_a_silenced_model_makes_no_special_token_and_is_another_object():
    model = make_bpe()
    silenced = silence(model, {4: "<s>"})
    assert [token.id for token in silenced.tokenize("<s>")] == [3, 2]
    assert [token.id for token in model.tokenize("<s>")] == [4]
    assert silence(model, {9: "<none>"}) is model


def test_random_segmentation_is_silenced_too():
    silenced = silence(make_bpe(dropout=1.0), {})
    assert [token.id for token in silenced.tokenize("<s>")] == [4]


def test_a_tokenizer_is_put_together_from_parts():
    parts = describe_part(normalizers.Lowercase()), describe_part(pre_tokenizers.Metaspace(prepend_scheme="never"))
    tokenizer = assemble(make_bpe(), *parts, [])
    assert tokenizer.encode("A<S>").ids == [5, 4]
    assert assemble(make_bpe(), None, None, []).encode("A").ids == []


def test_text_that_looks_like_a_byte_is_broken_after_its_first_character():
    for pre_tokenizer in (None, describe_part(pre_tokenizers.Metaspace(prepend_scheme="never"))):
        tokenizer = assemble(make_bpe(), None, break_byte_pieces(pre_tokenizer), [])
        pieces = [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str("a<0x41><s>")]
        assert pieces == ["a", "<", "0x41><s>"]


def test_where_words_are_split_at_spaces_and_then_marked_the_spaces_are_kept():
    marks = describe_part(pre_tokenizers.Metaspace(prepend_scheme="always"))
    split = describe_part(pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]))
    for normalizer, kinds in ((None, []), (describe_part(normalizers.NFC()), ["NFC"])):
        kept, pre_tokenizer = keep_spaces(normalizer, split)
        assert [part["type"] for part in kept["normalizers"]] == [*kinds, "Replace"]
        assert [part["type"] for part in pre_tokenizer["pretokenizers"]] == ["Metaspace"]
        assert keep_spaces(normalizer, marks) == (normalizer, marks)
    assert keep_spaces(None, None) == (None, None)
