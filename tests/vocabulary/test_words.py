"""Where words begin and go on: by hand for every kind of script, and the same however the text is cut into tokens."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepen_llm.vocabulary.words import Place, TextEnd, find_beginnings, goes_on, split_words
from tests.vocabularies import LOSSLESS, TEXTS, load_toy, mixed_texts

WORDS = {
    "the cat sat": ["the", " ", "cat", " ", "sat"],
    "Don't, he said.": ["Don't", ",", " ", "he", " ", "said", "."],
    "isn’t it ‘odd’": ["isn’t", " ", "it", " ", "‘", "odd’"],
    "x1y2 3.14 100,000": ["x1y2", " ", "3", ".", "14", " ", "100", ",", "000"],
    "snake_case e-mail": ["snake", "_", "case", " ", "e", "-", "mail"],
    "  \n\t": [" ", " ", "\n", "\t"],
    "naïve café e\u0301te\u0301": ["naïve", " ", "café", " ", "e\u0301te\u0301"],
    "\u0301a": ["\u0301a"],
    "Привет, мир": ["Привет", ",", " ", "мир"],
    "नमस्ते दुनिया।": ["नमस्ते", " ", "दुनिया", "।"],
    "مرحبا بالعالم": ["مرحبا", " ", "بالعالم"],
    "안녕하세요 세계": ["안녕하세요", " ", "세계"],
    "我们ab今天3x": ["我", "们", "ab", "今", "天", "3x"],
    "かなカナ": ["か", "な", "カ", "ナ"],
    "ก๑ขລ": ["ก", "๑", "ข", "ລ"],
    "𠀀𠀁a": ["𠀀", "𠀁", "a"],
    "👍🏽 ok": ["👍", "🏽", " ", "ok"],
    "a👩\u200d👩b": ["a", "👩", "\u200d", "👩", "b"],
    "½ ٣a ﬁx": ["½", " ", "٣a", " ", "ﬁx"],
}


def cut_at(text, ends):
    data = text.encode()
    return [data[left:right].decode() for left, right in pairwise([0, *ends])]


@pytest.mark.parametrize("text", WORDS)
def test_a_text_is_cut_into_words(text):
    assert cut_at(text, split_words(text)) == WORDS[text]


def test_an_empty_text_has_no_words():
    assert split_words("") == []
    assert TextEnd("").place == TextEnd().place == Place.BETWEEN


@settings(deadline=None)
@given(mixed_texts())
def test_words_cover_the_text_and_end_with_characters(text):
    ends = split_words(text)
    assert ends == sorted(set(ends))
    assert "".join(cut_at(text, ends)) == text
    assert ends[-1:] == ([len(text.encode())] if text else [])


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("the", Place.IN_WORD),
        ("don'", Place.IN_WORD),
        ("x1", Place.IN_WORD),
        ("e\u0301", Place.IN_WORD),
        ("세", Place.IN_WORD),
        ("the ", Place.BETWEEN),
        ("the,", Place.BETWEEN),
        ("们", Place.BETWEEN),
        ("ก", Place.BETWEEN),
        ("👍", Place.BETWEEN),
        ("\ud800", Place.BETWEEN),
    ],
)
def test_the_end_of_a_text_says_what_goes_on(text, place):
    assert TextEnd(text).place == place


@pytest.mark.parametrize("character", ["é", "世", "세", "😀", "𝐚", "½"])
def test_a_character_is_open_until_its_bytes_are_complete(character):
    end, data = TextEnd("the "), character.encode()
    for byte in data[:-1]:
        end.push(bytes([byte]))
        assert end.place == Place.IN_CHARACTER
    end.push(data[-1:])
    assert end.place == TextEnd(character).place


def test_bytes_that_make_no_character_do_not_stay_open():
    for token in (b"\x80", b"\x80\x80\x80\x80\x80", b"\xc0", b"the\xf0\x9f\x98\x80\x80"):
        end = TextEnd()
        end.push(token)
        assert end.place == Place.BETWEEN


@pytest.mark.parametrize(
    ("token", "in_word", "in_character"),
    [
        (b"ing", True, False),
        (b"ing the", True, False),
        (b"'s", True, False),
        (b"7", True, False),
        ("é".encode(), True, False),
        ("\u0301".encode(), True, False),
        ("세".encode(), True, False),
        (b" the", False, False),
        (b".", False, False),
        (b"_", False, False),
        ("们".encode(), False, False),
        ("กa".encode(), False, False),
        ("👍".encode(), False, False),
        (b"\xa9", True, True),
        (b"\xa9 the", True, True),
        (b"\xc3", True, False),
        (b"\xd0", True, False),
        (b"\xec\x84", True, False),
        (b"\xe4\xb8", False, False),
        (b"\xf0\x9f", False, False),
        (b"\xf0", False, False),
        (b"\xff", False, False),
    ],
)
def test_a_token_goes_on_by_its_first_character_or_by_what_its_first_byte_mostly_is(token, in_word, in_character):
    assert goes_on(token, Place.IN_WORD) == in_word
    assert goes_on(token, Place.IN_CHARACTER) == in_character
    assert not goes_on(token, Place.BETWEEN)


def is_guessed(character):
    """Whether the first byte alone says of a character what the whole character says."""
    data = character.encode()
    return goes_on(data[:1], Place.IN_WORD) == goes_on(data, Place.IN_WORD)


def ends_of(tokens):
    """Where words end in a text that comes token by token, in bytes."""
    end, position, ends = TextEnd(), 0, []
    for token in tokens:
        if position and not goes_on(token, end.place):
            ends.append(position)
        end.push(token)
        position += len(token)
    return ends, end.place


def cut(data, places):
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[left:right] for left, right in pairwise(edges)]


@settings(deadline=None)
@given(mixed_texts(), st.lists(st.integers(0, 10**6), max_size=30))
def test_words_end_where_they_do_however_whole_characters_are_cut_into_tokens(text, places):
    sizes = [0]
    for character in text:
        sizes.append(sizes[-1] + len(character.encode()))
    edges = sorted({0, sizes[-1], *(sizes[place % len(sizes)] for place in places)})
    tokens = [text.encode()[left:right] for left, right in pairwise(edges)]
    ends, place = ends_of(tokens)
    assert ends == [end for end in split_words(text)[:-1] if end in edges]
    assert place == TextEnd(text).place


@settings(deadline=None)
@given(mixed_texts(), st.lists(st.integers(0, 10**6), max_size=30))
def test_where_a_text_stands_does_not_depend_on_how_its_bytes_came(text, places):
    data = text.encode()
    for tokens in (cut(data, places), cut(data, range(len(data)))):
        assert ends_of(tokens)[1] == TextEnd(text).place


@settings(deadline=None)
@given(mixed_texts())
def test_byte_by_byte_words_end_where_they_do_but_before_characters_of_which_a_byte_says_something_else(text):
    data = text.encode()
    by_bytes = set(ends_of(cut(data, range(len(data))))[0])
    at_once = set(split_words(text)[:-1])
    for end in by_bytes ^ at_once:
        following = data[end:].decode()[0]  # only ever at the edge of a character
        assert not is_guessed(following)


def test_a_byte_says_of_most_characters_what_they_are():
    letters = "abc019'éöžøßПжΓωلمשअनमს세계한"
    others = " .,!_-—…€←✓们天かカ。「」👍😀\u00a0\n"
    assert all(map(is_guessed, letters + others))
    assert all(goes_on(letter.encode()[:1], Place.IN_WORD) for letter in letters)


@pytest.mark.parametrize("script", TEXTS)
def test_the_places_of_a_text_are_those_of_its_words_in_every_script(script):
    text = TEXTS[script]
    for word, following in pairwise(cut_at(text, split_words(text))):
        assert not goes_on(following.encode(), TextEnd(word).place)
    for word in cut_at(text, split_words(text)):
        assert len(word) == 1 or all(
            one.isalnum() or one in "'’" or unicodedata.category(one).startswith("M") for one in word
        )


@pytest.mark.parametrize("name", LOSSLESS)
def test_the_tokens_that_begin_a_word_are_found_for_every_place(name):
    vocabulary = load_toy(name)
    with torch.inference_mode():
        beginnings = find_beginnings(vocabulary)
    assert beginnings.shape == (len(Place), len(vocabulary)) and beginnings.dtype == torch.float32
    assert not beginnings.is_inference()
    for place in Place:
        expected = [float(not token or not goes_on(token, place)) for token in vocabulary.tokens]
        assert beginnings[place].tolist() == expected
    assert beginnings[Place.BETWEEN].all()
    for token_id in (*vocabulary.eos_ids, *vocabulary.special_ids):
        assert beginnings[:, token_id].all()


@pytest.mark.parametrize("name", LOSSLESS)
def test_tokens_of_any_tokenizer_end_words_only_where_words_end(name):
    vocabulary = load_toy(name)
    for text in TEXTS.values():
        tokens = [vocabulary.tokens[token_id] for token_id in vocabulary.encode(text, at_start=False)]
        if b"".join(tokens) != text.encode():
            continue
        edges = {0}
        for token in tokens:
            edges.add(max(edges) + len(token))
        whole = [end for end in split_words(text)[:-1] if end in edges]
        ends, place = ends_of(tokens)
        assert place == TextEnd(text).place
        for end in set(ends) ^ set(whole):
            assert not is_guessed(text.encode()[end:].decode()[0])
