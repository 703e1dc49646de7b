"""llama.cpp cuts texts as the tokenizer does that a file was made from, and never into a special token."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepen_llm.members.gguf.segmenter import GGUFSegmenter
from deepen_llm.vocabulary.segmenter import UNCLEAR
from tests import toy_tokenizers
from tests.members.gguf.test_tokenizer import load, load_original
from tests.vocabularies import TEXTS


@pytest.mark.parametrize("at_start", [True, False])
@pytest.mark.parametrize("kind", ["byte_level_bpe", "sentencepiece_bpe"])
def test_texts_are_cut_as_transformers_cuts_them(tiny, sentencepiece, kind, at_start):
    own = load(tiny if kind == "byte_level_bpe" else sentencepiece)
    original = load_original(getattr(toy_tokenizers, kind)())
    for text in (*TEXTS.values(), "", " ", "  a", "a ", "\n"):
        found, due = own.segment(text, at_start=at_start), original.segment(text, at_start=at_start)
        assert found.ids == due.ids, text
        known = [(a, b) for a, b in zip(found.starts, due.starts, strict=True) if b != UNCLEAR]
        assert all(a == b for a, b in known), text
        assert own.last_safe_cut(text) == original.last_safe_cut(text)


@given(text=st.text(max_size=40))
@settings(max_examples=50, deadline=None)
def test_whatever_the_text_its_tokens_spell_it(sentencepiece, text):
    own = load_once(sentencepiece)
    assert own.join(own.encode(text, at_start=False)) == text.encode()
    assert own.special_ids.isdisjoint(own.encode(text))


_LOADED = {}


def load_once(path):
    if path not in _LOADED:
        _LOADED[path] = load(path)
    return _LOADED[path]


class Library:
    """A tokenizer that finds its special token, `<s>` or one of a single character, in plain text."""

    def __init__(self, special):
        self.special = special

    def llama_tokenize(self, vocab, data, size, ids, room, add_special, parse_special):
        assert not (add_special or parse_special)
        found = []
        while data:
            is_special = data.startswith(self.special)
            found.append(256 if is_special else data[0])
            data = data[len(self.special) if is_special else 1 :]
        ids[: len(found)] = found
        return len(found)


class Model:
    vocab = None

    def __init__(self, special):
        self.library = Library(special)


def make(special):
    model = Model(special.encode())
    pieces = [*(bytes((byte,)) for byte in range(256)), b""]
    return GGUFSegmenter(model, model, pieces, {256: special}, ())


@pytest.mark.parametrize("special", ["<s>", "§"])
def test_a_special_token_that_the_text_spells_stays_text(special):
    text = f"a{special}b{special}{special}"
    segmentation = make(special).segment(text, True)
    assert bytes(segmentation.ids) == text.encode()
    characters = [text.encode()[:at].decode() for at, i in enumerate(segmentation.ids) if i < 128 or i >= 192]
    assert [at for at in segmentation.starts if at != UNCLEAR] == [len(before) for before in characters]


def test_a_long_text_of_special_tokens_is_cut_in_one_go():
    assert len(make("<s>").segment("<s>" * 20_000, True).ids) == 60_000
