"""Weights that members have in common: once in memory, as long as one of them is open."""

from __future__ import annotations

import gc
import os
import weakref

import pytest
import torch

from deepen_llm import MemberConfig
from tests import toy_tokenizers
from tests.models import make_model

IDS = [5, 60, 17, 33, 9]


@pytest.fixture
def folder(tmp_path):
    tokenizer = toy_tokenizers.byte_level_bpe()
    make_model("llama", vocab_size=len(tokenizer), eos_token_id=0).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def load(folder, **settings):
    return MemberConfig(model=folder, **settings).load()


def places(member):
    return {weight.data_ptr() for weight in member._model.parameters()}


def answer(member, ids=IDS):
    with torch.inference_mode():
        return member.extend({member.open(): ids})[0]


@pytest.mark.parametrize(
    "settings", [{}, {"name": "b"}, {"chat_template": "plain"}, {"temperature": 2.0}, {"local_files_only": False}]
)
def test_members_over_the_same_weights_hold_them_once_and_answer_alike(folder, settings):
    one, two = load(folder), load(folder, **settings)
    assert places(one) == places(two)
    assert [one.shared_weight_bytes, two.shared_weight_bytes] == [0, one.weight_bytes]
    assert torch.equal(answer(one), answer(two))
    one.close()
    assert two.shared_weight_bytes == 0
    assert answer(two).isfinite().all()


@pytest.mark.parametrize("settings", [{"dtype": "bfloat16"}, {"attn_implementation": "eager"}, {"device": "cpu"}])
def test_weights_that_were_loaded_in_another_way_are_not_shared(folder, settings):
    one, two = load(folder), load(folder, **settings)
    assert places(one).isdisjoint(places(two))
    assert two.shared_weight_bytes == 0


def test_what_cannot_be_compared_is_not_shared(folder):
    given = {"model_kwargs": {"max_memory": {"cpu": 2**40, "a place": object()}}}
    one, two = load(folder, **given), load(folder, **given)
    assert places(one).isdisjoint(places(two))


def test_a_folder_that_was_written_anew_is_loaded_anew(folder):
    one = load(folder)
    before = answer(one)
    tokenizer = toy_tokenizers.byte_level_bpe()
    make_model("llama", vocab_size=len(tokenizer), seed=5, eos_token_id=0).save_pretrained(folder)
    os.utime(folder / "model.safetensors", ns=(1, 1))
    two = load(folder)
    assert not torch.allclose(answer(two), before)
    assert torch.equal(answer(one), before)


def test_weights_go_with_the_last_member(folder):
    one, two = load(folder), load(folder)
    held = weakref.ref(next(one._model.parameters()))
    one.close()
    gc.collect()
    assert held() is not None
    two.close()
    gc.collect()
    assert held() is None
