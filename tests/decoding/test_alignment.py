from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepen_llm.decoding.alignment import Alignment
from deepen_llm.vocabulary import EncodedText, Vocabulary
from tests import toy_tokenizers as toys
from tests.vocabularies import LOSSLESS, OF_ENCODER_DECODERS, REAL, TEXTS, TOYS, load_real, load_toy, mixed_texts

NATURAL = "\n".join(text for script, text in TEXTS.items() if script != "base64")
SPACELESS = {"chinese": TEXTS["chinese"] * 8, "japanese": TEXTS["japanese"] * 8, "base64": TEXTS["base64"] * 2}


def load(name: str) -> Vocabulary:
    return load_real(name) if name in REAL else load_toy(name)


def cut_pieces(text: str, sizes: list[int]) -> list[str]:
    """The text in pieces of these sizes, over and over."""
    pieces = []
    while text:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def follow(vocabulary: Vocabulary, prompt: str, pieces: list[str]) -> None:
    """Append the pieces, and compare with the whole text after each."""
    encoded = vocabulary.encode_prompt(prompt)
    alignment, text = Alignment(vocabulary, encoded), prompt
    for piece in pieces:
        before = list(alignment.ids)
        num_kept = alignment.append(piece)
        text += piece
        assert alignment.ids == [*encoded.ids[: encoded.num_fixed], *vocabulary.encode(text)]
        assert alignment.ids[:num_kept] == before[:num_kept]
        assert num_kept >= encoded.num_fixed
        assert alignment.ids[num_kept : num_kept + 1] != before[num_kept : num_kept + 1] or num_kept == len(before)


@pytest.mark.parametrize("name", [*TOYS, *OF_ENCODER_DECODERS, *REAL])
@given(text=mixed_texts(), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4), num_prompt=st.integers(1, 9))
@settings(deadline=None, max_examples=25)
def test_ids_equal_those_of_the_whole_text_in_random_pieces(name, text, sizes, num_prompt):
    text = "x" + text
    follow(load(name), text[:num_prompt], cut_pieces(text[num_prompt:], sizes))


@pytest.mark.parametrize("name", [*TOYS, *OF_ENCODER_DECODERS, *REAL])
def test_ids_equal_those_of_the_whole_text_one_character_at_a_time(name):
    follow(load(name), NATURAL[:3], list(NATURAL[3:]))


@pytest.mark.parametrize("script", SPACELESS)
@pytest.mark.parametrize("name", [*TOYS, *OF_ENCODER_DECODERS, *REAL])
def test_ids_equal_those_of_the_whole_text_without_spaces(name, script):
    text = SPACELESS[script]
    follow(load(name), text[:2], cut_pieces(text[2:], [1, 2, 3]))


@pytest.mark.parametrize("name", [*TOYS, *REAL])
@pytest.mark.parametrize("script", ["cyrillic", "emoji", "chinese"])
def test_bytes_of_unfinished_characters_are_there_until_the_character_is(name, script):
    vocabulary, text = load(name), TEXTS[script]
    alignment, data = Alignment(vocabulary, vocabulary.encode_prompt("x ")), b""
    open_bytes, complete = b"", "x "
    for byte in text.encode():
        open_bytes += bytes((byte,))
        try:
            character, open_bytes = open_bytes.decode(), b""
        except UnicodeDecodeError:
            character = ""
        before = list(alignment.ids)
        num_kept = alignment.append(character, open_bytes)
        assert alignment.ids[:num_kept] == before[:num_kept]
        complete += character
        whole = list(vocabulary.encode_prompt(complete).ids)
        shown = open_bytes if "without" not in name else b""
        assert alignment.ids == whole + [vocabulary.byte_ids[open_byte] for open_byte in shown]
        if name in LOSSLESS:
            data = vocabulary.join(alignment.ids)
            assert data[vocabulary.adds_prefix_space :] == complete.encode() + shown


def test_open_bytes_are_kept_where_they_stay_and_rolled_back_where_they_do_not():
    vocabulary = load_toy("gpt2")
    alignment = Alignment(vocabulary, vocabulary.encode_prompt("x"))
    assert alignment.append("", b"\xe2") == 1
    assert alignment.append("", b"\xe2\x98") == 2
    assert len(alignment.ids) == 3
    assert alignment.append("☺") >= 1
    assert vocabulary.join(alignment.ids) == "x☺".encode()
    assert alignment.append("") == len(alignment.ids)


def test_open_bytes_that_turn_out_invalid_make_room_for_what_is_said_instead():
    vocabulary = load_toy("llama")
    alignment = Alignment(vocabulary, vocabulary.encode_prompt("x"))
    alignment.append("", b"\xe2\x98")
    alignment.append("\ufffdy")
    assert alignment.ids == list(vocabulary.encode_prompt("x\ufffdy").ids)


class CountingVocabulary:
    """A vocabulary that counts the characters it tokenizes."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self.counts: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._vocabulary, name)

    def segment(self, text: str, *, at_start: bool = True) -> object:
        self.counts.append(len(text))
        return self._vocabulary.segment(text, at_start=at_start)


@pytest.mark.parametrize("name", [*TOYS, *OF_ENCODER_DECODERS, *REAL])
@pytest.mark.parametrize("text", [NATURAL, *SPACELESS.values()], ids=["natural", *SPACELESS])
def test_the_work_of_an_append_does_not_grow_with_the_text(name, text):
    if name == "llama without bytes" and text is not NATURAL:
        pytest.skip("what this tokenizer cannot express is one unknown token over the whole text")
    vocabulary = CountingVocabulary(load(name))
    alignment = Alignment(vocabulary, vocabulary.encode_prompt("x" * 3))
    means = []
    for _ in range(6):
        vocabulary.counts.clear()
        for piece in cut_pieces(text, [3]):
            alignment.append(piece)
        means.append(sum(vocabulary.counts) / len(cut_pieces(text, [3])))
    assert means[-1] < 1.2 * means[1]
    assert means[-1] < 200


@pytest.mark.parametrize("scheme", ["prepend", "always", "first", "never"])
@pytest.mark.parametrize("make", [toys.sentencepiece_bpe, toys.unigram])
def test_text_after_a_templates_special_token_begins_as_the_tokenizer_begins_it_there(make, scheme):
    tokenizer = make(scheme=scheme)
    vocabulary = Vocabulary.from_tokenizer(tokenizer, name="toy")
    prompt = vocabulary.encode_chat([{"role": "user", "content": "Hi"}])
    assert prompt.text == ""
    alignment = Alignment(vocabulary, prompt)
    for piece in ("the", " dog", "s"):
        alignment.append(piece)
    assert prompt.opens_with_space  # as the template has it before an assistant's text
    assert alignment.ids == tokenizer.encode("<s>[INST] Hi [/INST] the dogs", add_special_tokens=False)


def test_an_empty_beginning_is_the_start_of_a_text():
    vocabulary = load_toy("llama")
    alignment = Alignment(vocabulary, vocabulary.encode_prompt(""))
    assert alignment.ids == [1]
    assert alignment.append("the") == 1
    assert alignment.ids == list(vocabulary.encode_prompt("the").ids)
    alone = Alignment(load_toy("gpt2"), EncodedText((), 0, ""))
    assert alone.append("the") == 0
    assert alone.ids == load_toy("gpt2").encode("the")
