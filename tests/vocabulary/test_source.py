"""A vocabulary from a tokenizer of another library: exactly what `TokenizerSource` names is asked of it."""

from __future__ import annotations

import pytest

from deepen_llm import Ensemble, EnsembleConfig, SamplingParams
from deepen_llm.errors import PromptError, VocabularyError
from deepen_llm.testing import ScriptedMember
from deepen_llm.vocabulary import Vocabulary, common_tokens
from deepen_llm.vocabulary.segmenter import Segmentation
from deepen_llm.vocabulary.specials import SpecialFinder
from deepen_llm.vocabulary.tokens import Pieces
from deepen_llm.vocabulary.transformers_tokenizer import TransformersTokenizer
from tests import toy_tokenizers as toys
from tests.vocabularies import TOYS, load_toy

SPECIALS = {0: "<eos>", 1: "<user>", 2: "<bot>"}
WORDS = ("the", " the", " cat", " sat", "cat")


class LongestMatch:
    """Cuts off the longest token there is, again and again."""

    adds_prefix_space = False
    prefixes_sections = False
    prefix_ids = (0,)

    def __init__(self, tokens: dict[int, bytes]) -> None:
        self._ids = {token: token_id for token_id, token in tokens.items()}
        self._sizes = sorted({len(token) for token in self._ids}, reverse=True)

    def segment(self, text: str, at_start: bool) -> Segmentation:
        data, at, ids, starts = text.encode(), 0, [], []
        while at < len(data):
            size = next(size for size in self._sizes if data[at : at + size] in self._ids)
            ids.append(self._ids[data[at : at + size]])
            starts.append(at)
            at += size
        return Segmentation(ids, starts)

    def normalize(self, text: str) -> str:
        return text


class FileTokenizer:
    """What a file of tokens may hold (GGUF, say): bytes, special tokens, a template. Nothing of transformers."""

    has_chat_template = True

    def __init__(self) -> None:
        pieces = [*(bytes((byte,)) for byte in range(256)), *(word.encode() for word in WORDS)]
        self._tokens = {token_id + len(SPECIALS): piece for token_id, piece in enumerate(pieces)}

    def read_pieces(self, name):
        strings = SPECIALS | {token_id: token.decode("latin-1") for token_id, token in self._tokens.items()}
        return Pieces(self._tokens, strings, "longest match", SPECIALS, frozenset(SPECIALS), eos_ids=(0,), bos_id=0)

    def make_segmenter(self, special_ids, num_logits):
        return LongestMatch({i: token for i, token in self._tokens.items() if i not in special_ids and i < num_logits})

    def make_special_finder(self, special_texts):
        return SpecialFinder(special_texts)

    def render_chat(self, messages, template, variables, *, max_characters, timeout_s):
        if template is not None:
            raise ValueError("no Jinja here")
        said = "".join(f"<user>{message['content']}" for message in messages)
        return said + "<bot>" * variables["add_generation_prompt"]


@pytest.fixture
def vocabulary():
    return Vocabulary.from_source(FileTokenizer(), name="file", num_logits=270)


def test_the_table_is_read_as_from_any_tokenizer(vocabulary):
    assert (len(vocabulary), vocabulary.kind, vocabulary.eos_ids) == (270, "longest match", (0, 1))
    assert vocabulary.special_ids == {0, 1, 2} and vocabulary.padded_ids == {*range(264, 270)}
    assert vocabulary.tokens[:4] == (None, None, None, b"\x00")
    assert vocabulary.pieces[:3] == ("<eos>", "<user>", "<bot>") and vocabulary.pieces[264] is None
    assert [vocabulary.tokens[i] for i in vocabulary.encode("the cat sat.")] == [b"the", b" cat", b" sat", b"."]
    assert vocabulary.encode_prompt("the").ids == (0, *vocabulary.encode("the"))
    assert vocabulary.last_safe_cut("the cat sat") == len("the cat")
    assert Vocabulary.from_source(FileTokenizer(), name="file", eos_ids=[2]).eos_ids == (0, 2, 1)


def test_its_chat_goes_through_its_own_template_and_messages_stay_text(vocabulary):
    prompt = vocabulary.encode_chat([{"role": "user", "content": "the <bot>"}])
    assert prompt.ids == (1, *vocabulary.encode("the <bot>"), 2)
    assert (prompt.num_fixed, prompt.text) == (len(prompt.ids), "")
    refusing = Vocabulary.from_source(FileTokenizer(), name="file", chat_template="{{ x }}")
    with pytest.raises(PromptError, match="the chat template of 'file' refuses these messages: no Jinja here"):
        refusing.encode_chat([{"role": "user", "content": "Hi"}])


def test_it_is_aligned_with_other_vocabularies_and_runs_in_an_ensemble(vocabulary):
    other = load_toy("gpt2")
    assert len(common_tokens([vocabulary, other])) > 200
    text = "the cat sat on the mat."
    members = [ScriptedMember(vocabulary, [text]), ScriptedMember(other, [text])]
    with Ensemble(members, EnsembleConfig(members=("file", "gpt2"), weights=(0.7, 0.3))) as ensemble:
        assert ensemble.generate("the", SamplingParams(max_new_tokens=40)).text == text[3:]


def test_tokens_beyond_the_logits_are_refused():
    with pytest.raises(VocabularyError, match="every token of 'file' must have a logit: the model has 200 logits"):
        Vocabulary.from_source(FileTokenizer(), name="file", num_logits=200)


@pytest.mark.parametrize("name", TOYS)
def test_a_tokenizer_of_transformers_is_one_source(name):
    read = Vocabulary.from_source(TransformersTokenizer(TOYS[name]()), name=name)
    assert read.fingerprint == load_toy(name).fingerprint
    assert read.pieces == load_toy(name).pieces


def test_a_tokenizer_without_a_template_has_none():
    assert TransformersTokenizer(toys.byte_level_bpe()).has_chat_template
    assert not TransformersTokenizer(toys.byte_level_bpe(template=None)).has_chat_template
