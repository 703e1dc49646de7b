from __future__ import annotations

import pytest

from deepen_llm.projection.first_tokens import NONE, FirstTokens
from deepen_llm.vocabulary.prefixes import TokenPrefixes
from tests.projection.toys import END, FewTokens
from tests.vocabularies import LOSSLESS, TEXTS, load_toy


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("text", [" the quick", "Isn't it", "世界", "\n\n\tprint", "  two", "👍🏽!"])
def test_the_first_token_is_the_one_that_the_tokenizer_makes(kind, text):
    main = load_toy(kind)
    first, _ = FirstTokens(main).find(text.encode())
    assert first == main.encode(text, at_start=False)[0]


@pytest.mark.parametrize("kind", LOSSLESS)
def test_bytes_of_a_character_that_is_not_complete_do_not_change_what_stands_before(kind):
    main = load_toy(kind)
    first = FirstTokens(main)
    assert first.find(b"dog" + "世".encode()[:2])[0] == first.find(b"dog")[0]


@pytest.mark.parametrize("kind", LOSSLESS)
def test_bytes_alone_count_as_the_longest_token_that_they_begin_with(kind):
    main = load_toy(kind)
    for text in ("世".encode()[:1], "世".encode()[:2], b"\xff\xfe"):
        first, _ = FirstTokens(main).find(text)
        token = main.tokens[first]
        assert token and text.startswith(token)
        assert not any(other and text.startswith(other) and len(other) > len(token) for other in main.tokens)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_text_is_open_where_a_token_begins_with_it_and_goes_on(kind):
    main = load_toy(kind)
    first = FirstTokens(main)
    for text in (b" t", b" the", b"zzz", b" w", "世".encode()[:1]):
        assert first.find(text)[1] == any(t and t.startswith(text) and t != text for t in main.tokens)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "unigram"])
def test_where_it_is_to_be_exact_only_a_safe_cut_after_the_first_token_settles_it(kind):
    first = FirstTokens(load_toy(kind), is_exact=True)
    assert first.find(b"zzz")[1]
    assert first.find(b"a b")[1] == (load_toy(kind).last_safe_cut("a b") == 0)
    assert first.find(b"a ")[1]
    assert first.find("世".encode()[:2])[1]


@pytest.mark.parametrize("kind", ["gpt2", "unigram"])
def test_what_is_settled_when_it_is_to_be_exact_stays_whatever_follows(kind):
    main = load_toy(kind)
    first = FirstTokens(main, is_exact=True)
    for text in (" the dog", "It's a", "b c d"):
        first_token, is_open = first.find(text.encode())
        assert not is_open
        assert {main.encode(text + more, at_start=False)[0] for more in TEXTS.values()} == {first_token}


@pytest.mark.parametrize("kind", ["llama without bytes", "unigram without bytes"])
def test_text_that_the_main_model_cannot_express_has_no_first_token(kind):
    first = FirstTokens(load_toy(kind))
    assert first.find("☃ and".encode())[0] == NONE
    assert first.find("☃".encode()[:2])[0] == NONE
    assert first.find("a☃".encode())[0] == load_toy(kind).encode("a", at_start=False)[0]


def test_a_tokenizer_that_drops_what_it_cannot_express_does_not_count_the_text_after_it():
    class Dropping:
        tokens = (b"a", b"b")
        prefixes = TokenPrefixes(tokens)
        unk_id = None

        def encode(self, text, at_start=True):
            return ["ab".index(letter) for letter in text if letter in "ab"]

        def can_express(self, text):
            return set(text) <= set("ab")

    first = FirstTokens(Dropping())
    assert first.find(b"?a")[0] == NONE
    assert first.find(b"a?")[0] == 0


def test_a_tokenizer_that_normalizes_may_spell_the_text_otherwise():
    from deepen_llm.vocabulary import Vocabulary
    from tests.toy_tokenizers import byte_level_bpe

    main = Vocabulary.from_tokenizer(byte_level_bpe(nfc=True), name="nfc")
    first, _ = FirstTokens(main).find("e\u0301".encode())
    assert first == main.encode("é", at_start=False)[0] != NONE


def test_a_members_tokens_are_read_in_the_order_of_their_ids():
    main = load_toy("gpt2")
    ids, opens = FirstTokens(main).read(FewTokens(None, " t", b"", "?", END, END))
    first = [main.encode(text, at_start=False)[0] for text in (" t", "?")]
    assert ids == [NONE, first[0], NONE, first[1], main.eos_ids[0], main.eos_ids[0]]
    assert opens == [False, True, False, FirstTokens(main).find(b"?")[1], False, False]


def test_mass_of_longer_tokens_is_that_of_the_tokens_that_go_on():
    import torch

    main = load_toy("gpt2")
    probs = torch.arange(len(main), dtype=torch.float64)
    longer = [i for i, token in enumerate(main.tokens) if token and token.startswith(b" t") and token != b" t"]
    assert longer
    assert FirstTokens(main).longer_mass(b" t", probs) == sum(longer)
    assert FirstTokens(main).longer_mass(b"zzz", probs) == 0


def test_a_tail_may_be_followed_by_what_does_not_change_its_cut():
    main = load_toy("gpt2")
    first = FirstTokens(main)
    tail = tuple(main.encode(" t", at_start=False))
    assert len(tail) == 1
    assert first.may_follow(tail, b"?")
    assert not first.may_follow(tail, b"he")
    assert first.may_follow(tail, b"?") and not first.may_follow(tail, b"he")  # remembered
    spelled = tuple(main.ids_by_token[letter] for letter in (b" ", b"t"))
    assert first.may_follow(spelled, b"he")  # cut as no tokenizer cuts it
