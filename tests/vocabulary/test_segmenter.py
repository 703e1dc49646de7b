"""Plain text into tokens, with the character at which each begins."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken

from deepen_llm.vocabulary import Vocabulary
from deepen_llm.vocabulary.segmenter import UNCLEAR, BackendSegmenter, BytesSegmenter
from tests import toy_tokenizers as toys
from tests.vocabularies import LOSSLESS, OF_ENCODER_DECODERS, TEXTS, load_toy


@pytest.mark.parametrize("script", ["latin", "cyrillic", "chinese", "code"])
@pytest.mark.parametrize("name", LOSSLESS)
def test_a_token_begins_where_its_start_says(name, script):
    vocabulary, text = load_toy(name), TEXTS[script]
    cut = vocabulary.segment(text, at_start=False)
    assert len(cut.ids) == len(cut.starts)
    position = 0
    for token_id, start in zip(cut.ids, cut.starts, strict=True):
        if start != UNCLEAR:
            assert len(text[:start].encode()) == position
        position += len(vocabulary.tokens[token_id])
    assert cut.starts[0] == 0 and position == len(text.encode())


@pytest.mark.parametrize("name", ["gpt2", "tiktoken", "llama"])
def test_a_token_inside_a_character_has_no_clear_start(name):
    cut = load_toy(name).segment("a\N{SNOWMAN}b", at_start=False)
    assert cut.starts[:2] == [0, 1] and cut.starts[-1] == 2
    assert set(cut.starts[2:-1]) == {UNCLEAR}


def test_nothing_is_cut_into_nothing():
    for name in LOSSLESS:
        assert load_toy(name).segment("", at_start=False).ids == []


def test_added_tokens_keep_their_ids_and_those_beyond_the_logits_stay_text():
    tokenizer = toys.byte_level_bpe()
    size = len(tokenizer)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("<later>", normalized=False)])
    segmenter = BackendSegmenter(tokenizer.backend_tokenizer, {0, 1, 2}, size + 1)
    cut = segmenter.segment("a<think>b", at_start=True)
    assert cut.ids[1] == size and cut.starts == [0, 1, 8]
    assert size + 1 not in segmenter.segment("<later>", at_start=True).ids


def test_what_follows_an_added_token_gets_its_dummy_space_where_every_section_does():
    tokenizer = toys.sentencepiece_bpe(scheme="prepend")
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    vocabulary = Vocabulary.from_tokenizer(tokenizer, name="toy")
    cut = vocabulary.segment("the<think>the", at_start=False)
    place = cut.ids.index(len(tokenizer) - 1)
    assert vocabulary.join(cut.ids[:place]) == b"the" and vocabulary.join(cut.ids[place + 1 :]) == b" the"
    assert cut.starts[place] == 3


@pytest.mark.parametrize(
    ("tokenizer", "prefix_ids"),
    [(toys.byte_level_bpe(), ()), (toys.sentencepiece_bpe(), (1,)), (toys.unigram(), (1,))],
)
def test_what_the_tokenizer_puts_before_a_prompt_is_found(tokenizer, prefix_ids):
    assert BackendSegmenter(tokenizer.backend_tokenizer, {0, 1, 2}, len(tokenizer)).prefix_ids == prefix_ids


def test_a_python_tokenizers_special_token_stays_text_where_a_text_spells_it():
    segmenter = BytesSegmenter(toys.BytesTokenizer())
    cut = segmenter.segment("the<|endoftext|>é", at_start=True)
    assert cut.ids[0] == 256 and 266 not in cut.ids
    assert cut.starts == [0, *range(3, 17)]
    assert segmenter.prefix_ids == () and segmenter.normalize("é") == "é"


@pytest.mark.parametrize("name", OF_ENCODER_DECODERS)
@pytest.mark.parametrize("text", ["the dog", "what is it", " the dog", "the  lazy\ndog"])
def test_tokenizers_of_encoder_decoders_cut_a_text_as_they_do_and_the_same_words_after_other_text(name, text):
    vocabulary, tokenizer = load_toy(name), OF_ENCODER_DECODERS[name]()
    if name == "t5" or text == " ".join(text.split()):
        assert vocabulary.encode(text) == tokenizer.encode(text, add_special_tokens=False)
        assert vocabulary.encode(" " + text.strip(), at_start=False) == vocabulary.encode(text.strip())
    assert vocabulary.join(vocabulary.encode("dog " + text.strip(), at_start=False)).startswith(b"dog ")
