"""A file's vocabulary is that of the tokenizer it was made from, read without transformers."""

from __future__ import annotations

import pickle

import pytest

from deepen_llm.errors import MemberError, PromptError, VocabularyError
from deepen_llm.members.gguf.header import Header
from deepen_llm.members.gguf.model import LlamaModel
from deepen_llm.members.gguf.settings import GGUFConfig
from deepen_llm.members.gguf.tokenizer import GGUFTokenizer
from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers
from tests.gguf_models import NUM_PADDED, write_llama

MESSAGES = [{"role": "user", "content": "Who <|im_end|> are you?"}]


def load(path, **options):
    source = GGUFTokenizer(Header.read(path), path.stem)
    return Vocabulary.from_source(source, name=path.stem, num_logits=source.num_tokens, **options)


def load_original(tokenizer):
    return Vocabulary.from_tokenizer(tokenizer, name="original", num_logits=len(tokenizer) + NUM_PADDED)


@pytest.mark.parametrize("kind", ["byte_level_bpe", "sentencepiece_bpe"])
def test_it_reads_what_transformers_reads(tiny, sentencepiece, kind):
    own = load(tiny if kind == "byte_level_bpe" else sentencepiece)
    original = load_original(getattr(toy_tokenizers, kind)())
    for name in ("tokens", "pieces", "special_ids", "padded_ids", "eos_ids", "bos_id", "prefix_ids", "byte_ids"):
        assert getattr(own, name) == getattr(original, name), name
    assert own.adds_prefix_space == original.adds_prefix_space and own.fingerprint == original.fingerprint


def test_chats_go_through_the_files_own_template_and_messages_stay_text(tiny):
    own, original = load(tiny), load_original(toy_tokenizers.byte_level_bpe())
    assert own.has_chat_template
    prompt = own.encode_chat(MESSAGES)
    assert prompt == original.encode_chat(MESSAGES)
    assert prompt.ids.count(own.special_id("<|im_end|>")) == 1, "the user's is text"
    other = load(tiny, chat_template="{{ bos_token }}{{ messages[0].content }}!")
    assert other.join(other.encode_chat(MESSAGES).ids) == b"Who <|im_end|> are you?!"


def test_a_section_after_a_special_token_gets_its_dummy_space(sentencepiece):
    own, original = load(sentencepiece), load_original(toy_tokenizers.sentencepiece_bpe())
    chat = [{"role": "user", "content": "Once upon"}, {"role": "assistant", "content": "a time"}, *MESSAGES]
    assert own.encode_chat(chat).ids == original.encode_chat(chat).ids


def test_without_a_template_a_chat_is_refused(tmp_path):
    own = load(write_llama(tmp_path / "bare.gguf", toy_tokenizers.byte_level_bpe(template=None)))
    assert not own.has_chat_template
    with pytest.raises(PromptError, match="chat template"):
        own.encode_chat(MESSAGES)


@pytest.mark.parametrize("kind", ["tiny", "sentencepiece"])
def test_a_pickled_vocabulary_is_opened_anew_from_its_file(kind, request):
    own = load(request.getfixturevalue(kind))
    again = pickle.loads(pickle.dumps(own))
    assert again.fingerprint == own.fingerprint and again.encode_chat(MESSAGES) == own.encode_chat(MESSAGES)
    for at_start in (True, False):
        assert again.encode("Once upon a time <|im_end|>", at_start=at_start) == own.encode(
            "Once upon a time <|im_end|>", at_start=at_start
        )


def test_a_pickled_vocabulary_needs_its_file(tmp_path):
    path = write_llama(tmp_path / "gone.gguf")
    data = pickle.dumps(load(path))
    path.unlink()
    with pytest.raises(MemberError, match=r"gone\.gguf"):
        pickle.loads(data)


def test_weights_are_not_pickled(tiny):
    with pytest.raises(TypeError, match=r"weights that llama\.cpp has opened cannot be pickled"):
        pickle.dumps(LlamaModel(tiny, GGUFConfig(model=str(tiny)), "tiny"))


def test_it_outlives_what_it_was_opened_with(tiny):
    source = GGUFTokenizer(Header.read(tiny), "tiny")
    vocabulary = Vocabulary.from_source(source, name="tiny")
    del source
    assert vocabulary.join(vocabulary.encode("the cat")) == b"the cat"


def test_tokens_that_do_not_spell_texts_are_refused(tmp_path, tiny):
    data = tiny.read_bytes()
    at = data.index(b"tokenizer.ggml.model") + len(b"tokenizer.ggml.model") + 12
    path = tmp_path / "bert.gguf"
    path.write_bytes(data[:at] + b"bert" + data[at + 4 :])
    with pytest.raises(VocabularyError, match=r"its tokenizer is 'bert'\): take a model with a BPE"):
        load(path)
