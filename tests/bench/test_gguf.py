"""The benchmark of GGUF files, with random weights that transformers and llama.cpp both have."""

from __future__ import annotations

import pytest

pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")

from deepen_llm.bench.gguf import EQUAL_PROMPTS, GGUFBenchmark
from deepen_llm.members.gguf.settings import GGUFConfig
from deepen_llm.starter import model_paths
from tests import toy_tokenizers
from tests.gguf_models import make_llama, write_llama


def test_every_finding_is_there_and_texts_equal_llama_cpps_own(tmp_path):
    tokenizer = toy_tokenizers.byte_level_bpe()
    make_llama(tokenizer).save_pretrained(tmp_path / "reference")
    tokenizer.save_pretrained(tmp_path / "reference")
    config = GGUFConfig(model=str(write_llama(tmp_path / "tiny.gguf")), cache_tokens=2048)
    benchmark = GGUFBenchmark(
        config, str(tmp_path / "reference"), str(model_paths()[0]), num_tokens=8, num_repetitions=1
    )
    findings = list(benchmark.run())
    benchmark.close()
    assert [finding.wants for finding in findings] == ["at least", "at most", "at most", "at least", "at least"]
    assert all(finding.value.low > 0 for finding in findings)
    assert findings[-1].value.median == len(EQUAL_PROMPTS) == 20
