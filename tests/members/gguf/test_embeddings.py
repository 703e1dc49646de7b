"""Embeddings as the file has them, in any number format."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch

from deepen_llm import Ensemble, EnsembleConfig, FusionConfig, MemberConfig, SamplingParams
from deepen_llm.members.gguf import embeddings
from deepen_llm.members.gguf.files import GGUFFiles
from deepen_llm.members.gguf.header import Header
from deepen_llm.members.gguf.library import load_library
from deepen_llm.members.transformers import TransformersMember
from tests import toy_tokenizers
from tests.gguf_models import make_llama

TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")


@pytest.mark.parametrize("name", TYPES)
def test_every_number_format_is_read_as_the_gguf_package_reads_it(tmp_path, monkeypatch, name):
    monkeypatch.setattr(embeddings, "BLOCK_ROWS", 7)
    kind = gguf.GGMLQuantizationType[name]
    values = np.random.default_rng(0).normal(0, 1, (20, 64)).astype(np.float32)
    packed = gguf.quants.quantize(values, kind)
    writer = gguf.GGUFWriter(str(tmp_path / "one.gguf"), "llama")
    writer.add_tensor("before", np.ones(5, np.float32))
    writer.add_tensor("token_embd.weight", packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tensor = Header.read(tmp_path / "one.gguf").tensors["token_embd.weight"]
    read = embeddings.read_embeddings(tmp_path / "one.gguf", tensor, load_library())
    assert read.dtype == torch.float16
    torch.testing.assert_close(read.float(), torch.tensor(gguf.quants.dequantize(packed, kind)), atol=2e-3, rtol=2e-3)


def test_a_members_embeddings_are_read_once_and_are_the_models(tiny):
    member = MemberConfig(model=tiny, context=16, cache_tokens=512).load()
    due = make_llama(toy_tokenizers.byte_level_bpe()).get_input_embeddings().weight.detach()
    torch.testing.assert_close(member.embeddings.float(), due, atol=2e-3, rtol=2e-3)
    assert member.embeddings is member.embeddings


def test_a_file_without_embeddings_has_none(tmp_path, tiny):
    headers = (Header(tiny, 0, {}, {}),)
    assert GGUFFiles(headers).embeddings is None


def test_relative_fusion_needs_nothing_else(tiny):
    tokenizer = toy_tokenizers.byte_level_bpe()
    other = TransformersMember(make_llama(tokenizer, seed=1), tokenizer, name="other")
    member = MemberConfig(model=tiny, context=64, cache_tokens=512).load()
    config = EnsembleConfig(members=("tiny", "other"), fusion=FusionConfig(method="relative"), weights=(0.5, 0.5))
    with Ensemble([member, other], config) as ensemble:
        assert ensemble.generate("the cat", SamplingParams(max_new_tokens=5)).usage.completion_tokens == 5
