"""The bundled models load offline from their folders and are what the model card says."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from deepen_llm.starter import MODEL_NAMES, model_paths
from deepen_llm.starter.prompts import RETRIEVAL, write_plain
from recipe.corpus import Mixture, make_examples
from recipe.members import MEMBERS

ALIEN = "naïve Ω 漢字 🙂‍↔️ \t\n  two  spaces <0x41> </s> العربية"


@pytest.fixture(scope="module", params=MEMBERS, ids=lambda member: member.name)
def member(request):
    return request.param


def folder_of(member):
    return next(path for path in model_paths() if path.name == member.name)


@pytest.fixture(scope="module")
def tokenizer(member):
    return AutoTokenizer.from_pretrained(folder_of(member), local_files_only=True)


def as_text(tokenizer) -> set[str]:
    """Every ordinary token, with its space and its line end written alike in all three kinds."""
    special = set(tokenizer.all_special_tokens)
    tokens = (token for token in tokenizer.get_vocab() if token not in special)
    return {token.replace("▁", " ").replace("Ġ", " ").replace("Ċ", "\n").replace("<0x0A>", "\n") for token in tokens}


def test_the_folders_are_the_members():
    assert tuple(path.name for path in model_paths()) == MODEL_NAMES == tuple(m.name for m in MEMBERS)


def test_the_files_are_small_enough():
    sizes = [file.stat().st_size for path in model_paths() for file in path.iterdir()]
    assert max(sizes) < 8_000_000
    assert sum(sizes) < 20_000_000


def test_a_model_loads_and_has_one_to_three_million_float32_parameters(member, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(folder_of(member), local_files_only=True)
    assert model.config.model_type == member.model_type
    assert model.config.vocab_size == len(tokenizer)
    assert 1_000_000 <= model.num_parameters() <= 3_000_000
    assert model.dtype == torch.float32
    assert tokenizer.eos_token_id in (ids if isinstance(ids := model.generation_config.eos_token_id, list) else [ids])


def test_every_byte_is_a_token(member, tokenizer):
    if member.tokenizer_kind == "byte-bpe":
        assert sum(len(token) == 1 for token in tokenizer.get_vocab()) >= 256
    else:
        assert {f"<0x{byte:02X}>" for byte in range(256)} <= set(tokenizer.get_vocab())


@pytest.mark.parametrize("text", [ALIEN, "Question: What is 12 + 34?\nAnswer:", " leading", "x"])
def test_any_text_survives_a_round_trip(tokenizer, text):
    text = text.replace("</s>", "")
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids).lstrip(" ") == text.lstrip(" ")


def test_digits_are_always_single_tokens(tokenizer):
    tokens = tokenizer.get_vocab()
    assert not [t for t in tokens if sum(c.isdigit() for c in t) > 1 and not t.startswith("<0x")]
    ids = tokenizer("x 1234", add_special_tokens=False).input_ids
    assert tokenizer.convert_ids_to_tokens(ids)[-4:] == ["1", "2", "3", "4"]


def test_vocabularies_share_at_least_half_of_the_smaller_pairwise():
    vocabularies = [as_text(AutoTokenizer.from_pretrained(path)) for path in model_paths()]
    for first, second in itertools.combinations(vocabularies, 2):
        assert len(first & second) >= min(len(first), len(second)) / 2
    assert all(2000 <= len(vocabulary) <= 6000 for vocabulary in vocabularies)


def test_the_tokenizers_cut_training_like_text_in_the_same_places():
    tokenizers = [AutoTokenizer.from_pretrained(path) for path in model_paths()]
    shared = total = 0
    for example in itertools.islice(make_examples(99, 0, Mixture()), 200):
        text = "x " + ("".join(s.text for s in write_plain(example, RETRIEVAL)) or example.context)
        cuts = []
        for tokenizer in tokenizers:
            encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            cuts.append({end for _, end in encoding.offset_mapping})
        shared += len(set.intersection(*cuts))
        total += len(set.union(*cuts))
    assert shared / total > 0.95


def test_the_chat_template_renders_what_training_wrote(member, tokenizer):
    messages = [
        {"role": "system", "content": "Answer the question."},
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hello! How can I help you?"},
    ]
    chat = member.chat
    expected = "".join(getattr(chat, m["role"])[0] + m["content"] + getattr(chat, m["role"])[1] for m in messages)
    assert tokenizer.apply_chat_template(messages, tokenize=False) == expected


def test_a_reply_begins_with_a_word_after_the_generation_prompt(member, tokenizer):
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    whole = [*messages, {"role": "assistant", "content": "Paris"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    full = tokenizer.apply_chat_template(whole, tokenize=False)
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    full_ids = tokenizer(full, add_special_tokens=False).input_ids
    assert full_ids[: len(ids)] == ids
    reply = tokenizer.convert_ids_to_tokens(full_ids[len(ids) :])
    assert reply[0].replace("Ġ", "▁") == "▁Paris"
    assert reply[1] == member.eos


def test_special_tokens_and_templates_differ_between_members():
    configs = [json.loads((path / "tokenizer_config.json").read_text()) for path in model_paths()]
    assert len({config["eos_token"] for config in configs}) == 3
    assert len({config["chat_template"] for config in configs}) == 3
