from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from deepen_llm.errors import VocabularyError
from deepen_llm.vocabulary.notation import BYTE_TABLE, detect_notation, read_piece


def make(model: object, **parts: object) -> Tokenizer:
    tokenizer = Tokenizer(model)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return tokenizer


def test_the_byte_table_is_that_of_the_tokenizers_library():
    assert set(BYTE_TABLE) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(BYTE_TABLE.values()) == list(range(256))
    for byte in range(256):
        spelled = next(character for character, value in BYTE_TABLE.items() if value == byte)
        assert decoders.ByteLevel().decode([spelled]) == bytes((byte,)).decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("piece", "notation", "expected"),
    [
        ("Ġthe", "byte-level", b" the"),
        ("Ċ", "byte-level", b"\n"),
        ("é", "byte-level", b"\xe9"),
        ("世界", "byte-level", "世界".encode()),
        ("▁the", "sentencepiece", b" the"),
        ("▁▁", "sentencepiece", b"  "),
        ("é", "sentencepiece", "é".encode()),
        ("<0xE9>", "sentencepiece", b"\xe9"),
        ("<0x0a>", "sentencepiece", b"\n"),
        ("<0xE9>x", "sentencepiece", b"<0xE9>x"),
    ],
)
def test_pieces_are_read_as_bytes(piece, notation, expected):
    assert read_piece(piece, notation) == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"decoder": decoders.ByteLevel()}, "byte-level"),
        ({"normalizer": normalizers.ByteLevel()}, "byte-level"),
        ({"pre_tokenizer": pre_tokenizers.Sequence([pre_tokenizers.ByteLevel()])}, "byte-level"),
        ({"decoder": decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])}, "sentencepiece"),
        ({"pre_tokenizer": pre_tokenizers.Metaspace()}, "sentencepiece"),
        ({"normalizer": normalizers.Replace(" ", "▁")}, "sentencepiece"),
    ],
)
@pytest.mark.parametrize("model", [models.BPE(), models.Unigram()])
def test_the_notation_is_read_from_the_tokenizers_parts(model, parts, expected):
    assert detect_notation(make(model, **parts), "toy") == expected


@pytest.mark.parametrize(
    ("tokenizer", "reason"),
    [
        (make(models.WordPiece()), "it is a WordPiece tokenizer"),
        (make(models.WordLevel(), decoder=decoders.ByteLevel()), "it is a WordLevel tokenizer"),
        (make(models.BPE()), "it is a BPE tokenizer that names no rule for bytes or spaces"),
        (make(models.BPE(end_of_word_suffix="</w>")), "its tokens carry a end_of_word_suffix '</w>'"),
        (make(models.BPE(continuing_subword_prefix="##")), "its tokens carry a continuing_subword_prefix '##'"),
        (make(models.Unigram(), pre_tokenizer=pre_tokenizers.Metaspace("_")), "names no rule for bytes or spaces"),
    ],
)
def test_a_tokenizer_without_a_rule_for_bytes_is_refused_by_name(tokenizer, reason):
    with pytest.raises(VocabularyError, match=f"the tokens of 'toy' must be readable as bytes, but .*{reason}"):
        detect_notation(tokenizer, "toy")
