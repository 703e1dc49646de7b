from __future__ import annotations

import pytest
from hypothesis import given, settings
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from deepen_llm.vocabulary import Vocabulary
from deepen_llm.vocabulary.safe_cuts import last_cut
from tests import toy_tokenizers as toys
from tests.vocabularies import OF_ENCODER_DECODERS, REAL, TOYS, load_real, load_toy, mixed_texts


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("", 0),
        ("word", 0),
        ("a b", 1),
        ("a b c", 3),
        ("a b ", 1),
        ("a  b", 0),
        (" a", 0),
        ("a \n", 0),
        ("a\t b", 0),
        ("a b\u3000 c", 1),
        ("x a\u200b b", 1),
        ("好 好", 1),
        ("! ?", 1),
    ],
)
def test_the_last_cut_is_before_a_single_space_between_visible_characters(text, cut):
    assert last_cut(text) == cut


@pytest.mark.parametrize("name", [*TOYS, *OF_ENCODER_DECODERS, *REAL])
@settings(deadline=None, max_examples=40)
@given(text=mixed_texts(), later=mixed_texts())
def test_the_two_sides_of_a_safe_cut_are_tokenized_as_in_the_whole_whatever_follows(name, text, later):
    vocabulary = load_real(name) if name in (*REAL, "stories260K") else load_toy(name)
    cut = vocabulary.last_safe_cut(text)
    whole = text + later
    apart = vocabulary.encode(whole[:cut]) + vocabulary.encode(whole[cut:], at_start=cut == 0)
    assert apart == vocabulary.encode(whole)


@pytest.mark.parametrize("name", [*TOYS, *OF_ENCODER_DECODERS, *REAL, "stories260K"])
def test_every_tokenizer_here_can_be_cut_at_spaces(name):
    vocabulary = load_real(name) if name in (*REAL, "stories260K") else load_toy(name)
    assert vocabulary.last_safe_cut("one two three") == 7


def test_tokens_that_run_over_spaces_forbid_cuts():
    vocab = {"Ġ": 0, "a": 1, "b": 2, "aĠ": 3, "aĠb": 4}
    tokenizer = Tokenizer(models.BPE(vocab, [("a", "Ġ"), ("aĠ", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocabulary = Vocabulary.from_tokenizer(PreTrainedTokenizerFast(tokenizer_object=tokenizer), name="superwords")
    assert vocabulary.encode("a b") == [4]
    assert vocabulary.last_safe_cut("a b") == 0


def test_added_tokens_that_hold_spaces_forbid_cuts():
    tokenizer = toys.byte_level_bpe()
    tokenizer.add_tokens(["of the"])
    assert Vocabulary.from_tokenizer(tokenizer, name="toy").last_safe_cut("a b") == 0


def test_no_cut_is_made_right_after_an_added_token_that_swallows_the_space():
    tokenizer = toys.byte_level_bpe()
    tokenizer.add_tokens([AddedToken("<think>", rstrip=True, special=False)])
    vocabulary = Vocabulary.from_tokenizer(tokenizer, name="toy")
    assert vocabulary.last_safe_cut("a <think> b") == 1
    assert vocabulary.last_safe_cut("<think> b") == 0
    assert vocabulary.last_safe_cut("<think> b c") == 9


def test_after_an_added_token_the_dummy_space_comes_again_where_the_tokenizer_has_it_so():
    tokenizer = toys.sentencepiece_bpe(scheme="prepend")
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    vocabulary = Vocabulary.from_tokenizer(tokenizer, name="toy")
    text = "the dog <think>the dog"
    assert vocabulary.encode(text) == tokenizer.encode(text, add_special_tokens=False)
    assert vocabulary.join(vocabulary.encode(text)) == b" the dog <think> the dog"
    for cut in (3, 7):
        assert vocabulary.last_safe_cut(text[: cut + 2]) == cut
        assert vocabulary.encode(text[:cut]) + vocabulary.encode(text[cut:], at_start=False) == vocabulary.encode(text)
    assert vocabulary.last_safe_cut("a <think> b") == 1
