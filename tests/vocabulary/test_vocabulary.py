from __future__ import annotations

import threading
import unicodedata

import pytest
import torch
from tokenizers import AddedToken

from deepen_llm.errors import PromptError, VocabularyError
from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers as toys
from tests.vocabularies import LOSSLESS, REAL, TEXTS, TOYS, load_real, load_real_tokenizer, load_toy


def read(vocabulary: Vocabulary, ids: list[int]) -> str:
    """The text of tokens from a text's start, without the dummy space."""
    text = vocabulary.join(ids).decode()
    return text[1:] if vocabulary.adds_prefix_space and text[:1] == " " else text


@pytest.mark.parametrize("script", TEXTS)
@pytest.mark.parametrize("name", REAL)
def test_the_bytes_of_a_real_tokenizers_tokens_join_to_the_text(name, script):
    vocabulary, text = load_real(name), TEXTS[script]
    spelled = unicodedata.normalize("NFC", text) if name == "neox20b" else text
    assert read(vocabulary, vocabulary.encode(text)) == spelled
    assert vocabulary.join(vocabulary.encode(text, at_start=False)).decode() == spelled
    assert vocabulary.can_express(text)


@pytest.mark.parametrize("script", TEXTS)
@pytest.mark.parametrize("name", LOSSLESS)
def test_the_bytes_of_a_toy_tokenizers_tokens_join_to_the_text(name, script):
    vocabulary, text = load_toy(name), TEXTS[script]
    assert read(vocabulary, vocabulary.encode(text)) == text
    assert vocabulary.join(vocabulary.encode(text, at_start=False)).decode() == text
    assert vocabulary.can_express(text)


@pytest.mark.parametrize("name", [*REAL, "stories260K", "babyllama-tok361", "babyllama-tok105"])
def test_plain_text_gets_the_ids_that_the_tokenizer_gives_it(name):
    vocabulary, tokenizer = load_real(name), load_real_tokenizer(name)
    for script, text in TEXTS.items():
        if script != "specials":
            assert vocabulary.encode(text) == tokenizer.encode(text, add_special_tokens=False), script
            assert list(vocabulary.encode_prompt(text).ids) == tokenizer.encode(text), script


@pytest.mark.parametrize("name", [name for name in TOYS if name != "tiktoken"])
def test_plain_text_gets_the_ids_that_a_toy_tokenizer_gives_it(name):
    vocabulary, tokenizer = load_toy(name), TOYS[name]()
    for script, text in TEXTS.items():
        if script != "specials":
            assert vocabulary.encode(text) == tokenizer.encode(text, add_special_tokens=False), script


@pytest.mark.parametrize("name", TOYS)
def test_text_that_looks_like_a_special_token_stays_text(name):
    vocabulary = load_toy(name)
    for special in [*vocabulary._special_texts.values(), "<|im_end|>", "</s>"]:
        for text in (special, f"a{special}b", f" {special} {special}\n", special * 2):
            for at_start in (True, False):
                ids = vocabulary.encode(text, at_start=at_start)
                assert not vocabulary.special_ids - {vocabulary.unk_id} & set(ids), (special, text)
                if "without" not in name:
                    assert vocabulary.unk_id not in ids
                    assert text in vocabulary.join(ids).decode()


@pytest.mark.parametrize("name", REAL)
def test_text_that_looks_like_a_real_special_token_stays_text(name):
    vocabulary = load_real(name)
    for special in list(vocabulary._special_texts.values())[:40]:
        ids = vocabulary.encode(f"x{special} {special}", at_start=False)
        assert not vocabulary.special_ids & set(ids)
        assert vocabulary.join(ids).decode() == f"x{special} {special}"


def test_continuing_text_gets_no_dummy_space():
    for name in ("llama", "llama, first", "unigram", "unigram, always", "byte-level with a prefix space"):
        vocabulary = load_toy(name)
        assert vocabulary.adds_prefix_space
        assert vocabulary.join(vocabulary.encode("ing")) == b" ing"
        assert vocabulary.join(vocabulary.encode("ing", at_start=False)) == b"ing"
        assert vocabulary.join(vocabulary.encode(" the", at_start=False)) == b" the"
    assert not load_toy("llama, never").adds_prefix_space
    assert not load_toy("gpt2").adds_prefix_space


def test_special_added_and_padded_ids_are_told_apart():
    tokenizer = toys.byte_level_bpe()
    tokenizer.add_tokens([AddedToken("<think>", special=False, normalized=False)])
    vocabulary = Vocabulary.from_tokenizer(tokenizer, name="toy", num_logits=len(tokenizer) + 7, eos_ids=[2])
    think = tokenizer.convert_tokens_to_ids("<think>")
    assert vocabulary.special_ids == {0, 1, 2}
    assert vocabulary.added_ids == {think}
    assert vocabulary.padded_ids == set(range(len(tokenizer), len(tokenizer) + 7))
    assert len(vocabulary.tokens) == len(vocabulary) == len(tokenizer) + 7
    assert {i for i, token in enumerate(vocabulary.tokens) if token is None} == {0, 1, 2} | vocabulary.padded_ids
    assert vocabulary.tokens[think] == b"<think>"
    assert vocabulary.encode("a<think>") == [*vocabulary.encode("a"), think]
    assert vocabulary.eos_ids == (0, 2)
    assert [vocabulary.display(i) for i in (0, think, len(tokenizer))] == ["<|endoftext|>", "<think>", ""]


def test_an_end_of_sequence_that_is_an_ordinary_token_is_never_text_of_an_answer_but_stays_text_of_a_prompt():
    newline = load_toy("gpt2").encode("\n")
    vocabulary = Vocabulary.from_tokenizer(toys.byte_level_bpe(template=None), name="toy", eos_ids=newline)
    assert vocabulary.tokens[newline[0]] is None
    assert vocabulary.eos_ids == (0, *newline)
    assert vocabulary.encode("\n") == newline


def test_byte_ids_are_the_fallback_tokens_of_sentencepiece_and_the_bytes_of_byte_level():
    llama, gpt2 = load_toy("llama"), load_toy("gpt2")
    assert [llama._segmenter._start.id_to_token(i) for i in llama.byte_ids] == list(toys.BYTE_PIECES)
    assert [gpt2.tokens[i] for i in gpt2.byte_ids] == [bytes((byte,)) for byte in range(256)]
    assert set(load_toy("llama without bytes").byte_ids[128:]) == {None}
    assert load_real("neox20b").byte_ids.count(None) == 13


def test_what_cannot_be_expressed_is_known_beforehand():
    for name in ("llama without bytes", "unigram without bytes"):
        vocabulary = load_toy(name)
        assert vocabulary.can_express("the dog")
        assert not vocabulary.can_express("the \N{SNOWMAN} dog")
        assert vocabulary.unk_id in vocabulary.encode("\N{SNOWMAN}")
    assert load_toy("llama").can_express("\N{SNOWMAN}")


def test_a_prompt_begins_as_the_tokenizer_begins_it_and_stays_open():
    prompt = load_toy("llama").encode_prompt("the dog")
    assert prompt.ids == (1, *load_toy("llama").encode("the dog"))
    assert (prompt.num_fixed, prompt.text, prompt.at_start) == (1, "the dog", True)
    assert load_toy("llama").encode_prompt("").ids == (1,)
    assert load_toy("gpt2").encode_prompt("the").num_fixed == 0


@pytest.mark.parametrize("name", ["gpt2", "tiktoken"])
def test_an_empty_prompt_without_bos_is_refused(name):
    with pytest.raises(PromptError, match=f"must not be empty: the tokenizer of '{name}' adds no BOS"):
        load_toy(name).encode_prompt("")


def test_a_lone_surrogate_is_refused_with_its_position():
    with pytest.raises(PromptError, match=r"lone surrogate U\+D83D at character 2"):
        load_toy("gpt2").encode_prompt("ab\ud83dc")


@pytest.mark.parametrize("prompt", [None, 3, b"bytes"])
def test_a_prompt_that_is_no_string_is_refused(prompt):
    with pytest.raises(PromptError, match="the prompt must be a string; got"):
        load_toy("gpt2").encode_prompt(prompt)


def test_a_tokenizer_without_bytes_is_refused_by_name():
    with pytest.raises(VocabularyError, match="'bert' must be readable as bytes, but it is a WordPiece tokenizer"):
        Vocabulary.from_tokenizer(toys.wordpiece(), name="bert")


def test_a_python_tokenizer_without_bytes_is_refused_by_name():
    tokenizer = toys.BytesTokenizer()
    tokenizer.convert_ids_to_tokens = lambda ids: [f"token {token_id}" for token_id in ids]
    with pytest.raises(
        VocabularyError, match="'python' must be readable as bytes, but BytesTokenizer is a Python token"
    ):
        Vocabulary.from_tokenizer(tokenizer, name="python")


def test_a_sentencepiece_tokenizer_with_runs_of_spaces_as_added_tokens_reads_them_as_spaces():
    tokenizer = toys.sentencepiece_bpe(scheme="never")
    tokenizer.add_tokens([AddedToken("\n\n", normalized=False), AddedToken("▁the", normalized=False)])
    vocabulary = Vocabulary.from_tokenizer(tokenizer, name="gemma")
    text = "a the\n\n  b"
    assert vocabulary.encode(text) == tokenizer.encode(text, add_special_tokens=False)
    assert vocabulary.join(vocabulary.encode(text)).decode() == text
    assert vocabulary.tokens[tokenizer.convert_tokens_to_ids("▁the")] == b" the"


def test_random_segmentation_is_switched_off():
    tokenizer = toys.byte_level_bpe()
    tokenizer.backend_tokenizer.model.dropout = 0.5
    vocabulary = Vocabulary.from_tokenizer(tokenizer, name="toy")
    assert all(vocabulary.encode(text) == load_toy("gpt2").encode(text) for text in TEXTS.values())


def test_fewer_logits_than_tokens_are_refused():
    with pytest.raises(VocabularyError, match=r"'toy' must have a logit: the model has 100 logits, .* up to id 599"):
        Vocabulary.from_tokenizer(toys.byte_level_bpe(), name="toy", num_logits=100)


def test_a_padding_token_that_is_a_character_of_the_text_stays_text():
    tokenizer = toys.byte_level_bpe()
    tokenizer.add_special_tokens({"pad_token": "!"})
    vocabulary = Vocabulary.from_tokenizer(tokenizer, name="toy")
    assert vocabulary.tokens[tokenizer.pad_token_id] == b"!"
    assert vocabulary.encode("hey!") == tokenizer.encode("hey!", add_special_tokens=False)
    assert vocabulary.can_express("hey!")


def test_added_tokens_beyond_the_logits_stay_text():
    tokenizer = toys.byte_level_bpe()
    size = len(tokenizer)
    tokenizer.add_tokens(["<think>"])
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    vocabulary = Vocabulary.from_tokenizer(tokenizer, name="toy", num_logits=size)
    assert len(vocabulary.tokens) == size
    assert max(vocabulary.encode("<think> <pad>")) < size


def test_the_users_tokenizer_is_neither_changed_nor_obeyed_where_it_truncates():
    tokenizer = toys.unigram()
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    before = tokenizer.backend_tokenizer.to_str()
    vocabulary = Vocabulary.from_tokenizer(tokenizer, name="toy")
    text = TEXTS["latin"]
    assert read(vocabulary, vocabulary.encode(text)) == text
    assert vocabulary.encode_chat([{"role": "user", "content": text}]).num_fixed > 0
    assert tokenizer.backend_tokenizer.to_str() == before


def test_threads_share_a_vocabulary():
    vocabulary = load_toy("unigram")
    expected = {script: vocabulary.encode(text) for script, text in TEXTS.items()}
    wrong: list[str] = []

    def work() -> None:
        for _ in range(20):
            wrong.extend(script for script, text in TEXTS.items() if vocabulary.encode(text) != expected[script])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("name", "kind"),
    [("gpt2", "BPE, byte-level"), ("mistral-v3", "BPE, sentencepiece")],
)
def test_the_kind_of_a_real_tokenizer(name, kind):
    assert load_real(name).kind == kind


def test_the_kind_of_a_toy_tokenizer():
    kinds = {load_toy(name).kind for name in TOYS}
    assert kinds >= {"BPE, byte-level", "Unigram, sentencepiece", "tiktoken"}


@pytest.mark.parametrize("name", TOYS)
def test_pieces_are_the_tokens_as_the_tokenizers_vocabulary_writes_them(name):
    vocabulary, tokenizer = load_toy(name), TOYS[name]()
    assert len(vocabulary.pieces) == len(vocabulary)
    written = {str(piece): i for piece, i in tokenizer.get_vocab().items()}
    assert {piece: i for i, piece in enumerate(vocabulary.pieces) if piece is not None} == written


def test_padding_has_no_piece_and_special_tokens_have_theirs():
    tokenizer = toys.byte_level_bpe()
    vocabulary = Vocabulary.from_tokenizer(tokenizer, name="toy", num_logits=len(tokenizer) + 3)
    assert {i for i, piece in enumerate(vocabulary.pieces) if piece is None} == vocabulary.padded_ids
    assert [vocabulary.pieces[i] for i in sorted(vocabulary.special_ids)] == [
        tokenizer.convert_ids_to_tokens(i) for i in sorted(vocabulary.special_ids)
    ]


@pytest.mark.parametrize("name", TOYS)
def test_what_may_come_has_bytes_or_ends_the_text(name):
    vocabulary = load_toy(name)
    allowed = vocabulary.allowed
    assert allowed.shape == (len(vocabulary),) and allowed.dtype == torch.bool and allowed.device.type == "cpu"
    expected = [bool(token) or i in vocabulary.eos_ids for i, token in enumerate(vocabulary.tokens)]
    assert allowed.tolist() == expected
    assert vocabulary.allowed is allowed


def test_special_and_padded_ids_may_not_come_but_every_end_of_sequence_may():
    tokenizer = toys.byte_level_bpe()
    vocabulary = Vocabulary.from_tokenizer(tokenizer, name="toy", num_logits=len(tokenizer) + 7, eos_ids=[2])
    assert vocabulary.allowed[[0, 2]].all()
    assert not vocabulary.allowed[[1, *vocabulary.padded_ids]].any()


def test_what_may_come_is_an_ordinary_tensor_whoever_asks_first():
    vocabulary = Vocabulary.from_tokenizer(toys.byte_level_bpe(), name="toy")
    with torch.inference_mode():
        assert not vocabulary.allowed.is_inference()


@pytest.mark.parametrize("name", TOYS)
def test_prefixes_are_those_of_the_tokens_of_the_vocabulary(name):
    vocabulary = load_toy(name)
    prefixes = vocabulary.prefixes
    assert vocabulary.prefixes is prefixes
    assert sorted(prefixes.ids) == [i for i, token in enumerate(vocabulary.tokens) if token]
    assert prefixes.longest == max(len(token) for token in vocabulary.tokens if token)
    begin = {i for i, token in enumerate(vocabulary.tokens) if token and token.startswith(b" t")}
    assert {prefixes.ids[place] for place in prefixes.beginning_with(b" t")} == begin
    assert vocabulary.ids_by_token[b"e"] in prefixes.ids_of(b"e")
