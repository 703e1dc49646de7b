"""What llama.cpp opened is freed, and how many threads it gets."""

from __future__ import annotations

import gc
import weakref

import pytest

from deepen_llm import MemberConfig
from deepen_llm.errors import MemberError
from deepen_llm.members.gguf import model
from deepen_llm.members.gguf.model import LlamaModel, count_threads
from deepen_llm.members.gguf.settings import GGUFConfig


def test_one_core_is_left_to_everything_else(monkeypatch):
    monkeypatch.setattr(model.os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    for cores, due in ((8, 7), (2, 1), (1, 1), (None, 15), (32, 15)):
        monkeypatch.setattr(model, "_count_cores", lambda cores=cores: cores)
        assert count_threads() == due


def test_a_model_that_nobody_has_any_more_is_freed(tiny):
    opened = LlamaModel(tiny, GGUFConfig(model=str(tiny)), "tiny")
    gone, finalizer = weakref.ref(opened), opened._finalizer
    assert finalizer.alive
    del opened
    gc.collect()
    assert gone() is None and not finalizer.alive


def test_a_model_that_is_freed_is_freed_once(tiny):
    opened = LlamaModel(tiny, GGUFConfig(model=str(tiny)), "tiny")
    opened.free()
    opened.free()


def test_a_vocabulary_is_read_without_the_weights_and_with_settings_of_ones_own(sentencepiece):
    def cut(**overrides):
        opened = LlamaModel.load_vocabulary(sentencepiece, "one", **overrides)
        ids = (model.ctypes.c_int32 * 20)()
        num = opened.library.llama_tokenize(opened.vocab, b"the", 3, ids, 20, False, False)
        return ids[:num]

    assert cut() != cut(add_space_prefix=False)


def test_a_model_with_an_encoder_is_refused(tiny, monkeypatch):
    library = model.load_library()
    monkeypatch.setattr(library, "llama_model_has_encoder", lambda pointer: True)
    with pytest.raises(MemberError, match=r"member 'tiny\.gguf' must be decoder-only"):
        MemberConfig(model=tiny).load()
    monkeypatch.setattr(library, "llama_model_has_encoder", lambda pointer: False)
    monkeypatch.setattr(library, "llama_model_is_diffusion", lambda pointer: True)
    with pytest.raises(MemberError, match="must write from left to right"):
        MemberConfig(model=tiny).load()
