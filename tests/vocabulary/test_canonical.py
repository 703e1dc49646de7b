"""What tokens stand for, and which of them count as one."""

from __future__ import annotations

import pytest

from deepen_llm.vocabulary import Vocabulary
from deepen_llm.vocabulary.canonical import END, TokenTexts, canonical_ids
from tests import toy_tokenizers


@pytest.fixture(scope="module")
def sentencepiece():
    return Vocabulary.from_tokenizer(toy_tokenizers.sentencepiece_bpe(), name="sp")


@pytest.fixture(scope="module")
def several_ends():
    return Vocabulary.from_tokenizer(toy_tokenizers.byte_level_bpe(), name="ends", eos_ids=[300, 301])


def test_tokens_with_the_same_bytes_count_as_the_one_that_the_tokenizer_makes(sentencepiece):
    ids = canonical_ids(sentencepiece, align_eos=True)
    letter = sentencepiece.encode("a", at_start=False)[0]
    fallback = next(i for i, piece in enumerate(sentencepiece.pieces) if piece == "<0x61>")
    assert fallback != letter and ids[fallback] == ids[letter] == letter
    assert canonical_ids(sentencepiece, align_eos=True, compares_strings=True)[fallback] == fallback


def test_special_and_padded_tokens_never_come(sentencepiece):
    ids = canonical_ids(sentencepiece, align_eos=True)
    special = sentencepiece.special_ids - set(sentencepiece.eos_ids)
    assert special and all(ids[token_id] == -1 for token_id in special)
    may_come = [target >= 0 for target in ids]
    assert may_come == sentencepiece.allowed.tolist()


@pytest.mark.parametrize("compares_strings", [True, False])
@pytest.mark.parametrize("align_eos", [True, False])
def test_ends_of_sequence_count_as_the_first_where_they_are_aligned(several_ends, align_eos, compares_strings):
    ids = canonical_ids(several_ends, align_eos=align_eos, compares_strings=compares_strings)
    ends = several_ends.eos_ids
    assert len(ends) > 2
    assert [ids[token_id] for token_id in ends] == ([ends[0]] * len(ends) if align_eos else list(ends))


def test_a_text_is_begun_by_its_token_or_by_the_first_of_those_that_spell_it(sentencepiece):
    texts = TokenTexts.read(sentencepiece, align_eos=True)
    for text in (b" the", b" zebra", "世界".encode(), b"\xe4"):
        first = texts.find_first(text)
        spelled = sentencepiece.tokens[first]
        assert spelled and text.startswith(spelled)
        if text in sentencepiece.ids_by_token:
            assert spelled == text
    assert texts.find_first(END) == sentencepiece.eos_ids[0]
    assert texts.find_first("end: <elsewhere>") == -1 == texts.find_first(b"")


def test_what_a_vocabulary_cannot_express_has_no_first_token():
    poor = Vocabulary.from_tokenizer(toy_tokenizers.sentencepiece_bpe(byte_fallback=False), name="poor")
    texts = TokenTexts.read(poor, align_eos=True)
    assert texts.find_first("☃".encode()) == -1 == texts.find_first("☃".encode()[:2])


def test_ends_that_are_not_aligned_are_told_apart_by_the_way_they_are_written(sentencepiece, several_ends):
    one, other = (TokenTexts.read(vocabulary, align_eos=False) for vocabulary in (sentencepiece, several_ends))
    assert one.of_id[sentencepiece.eos_ids[0]] != END
    assert set(one.ids) & set(other.ids) == {text for text in one.ids if text in other.ids}
    aligned = TokenTexts.read(sentencepiece, align_eos=True)
    assert aligned.of_id[sentencepiece.eos_ids[0]] == END


@pytest.mark.parametrize("reader", ["bpe", "sentencepiece", "unigram"])
@pytest.mark.parametrize("other", ["bpe", "sentencepiece", "unigram"])
def test_a_token_that_a_vocabulary_lacks_is_begun_as_its_tokenizer_cuts_it(vocabularies, reader, other):
    texts = TokenTexts.read(vocabularies[reader], align_eos=True)
    for token in vocabularies[other].ids_by_token:
        try:
            cut = texts.vocabulary.encode(token.decode(), at_start=False)
        except UnicodeDecodeError:
            continue
        if token:
            expected = texts.ids.get(token, cut[0])
            assert texts.of_id[texts.find_first(token)] == texts.of_id[expected]


def test_parts_of_characters_begin_with_a_byte_and_whole_ones_before_them_come_first(sentencepiece):
    texts = TokenTexts.read(sentencepiece, align_eos=True)
    lead = "字".encode()[:1]
    assert texts.of_id[texts.find_first(lead + b"\xff\xff")] == lead
    assert texts.of_id[texts.find_first(b"q\xff\xff")] == b"q"


def test_what_counts_as_another_token_has_its_bytes(sentencepiece):
    texts = TokenTexts.read(sentencepiece, align_eos=True)
    moved = {source: target for source, target in enumerate(texts.canonical_ids) if target not in (-1, source)}
    assert moved and all(texts.of_id[source] == texts.of_id[target] for source, target in moved.items())
