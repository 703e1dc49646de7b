from __future__ import annotations

import pytest
import torch

from deepen_llm.bench.shapes import SHAPES, ShapesBenchmark, count_read_bytes, find_tokenizers
from deepen_llm.errors import ConfigError
from tests import toy_tokenizers
from tests.models import make_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tokenizers of two kinds, and a folder that holds none."""
    folder = tmp_path_factory.mktemp("tokenizers")
    toy_tokenizers.byte_level_bpe().save_pretrained(folder / "qwen2-toy")
    toy_tokenizers.sentencepiece_bpe().save_pretrained(folder / "another")
    (folder / "empty").mkdir()
    return folder


def test_random_models_of_a_shape_are_measured_beside_their_own_generate_and_the_limit(folder):
    benchmark = ShapesBenchmark("tiny", folder, num_tokens=8, num_repetitions=1, device="cpu")
    with benchmark.ensemble:
        findings = list(benchmark.run())
        assert [member.name for member in benchmark.ensemble.members] == ["tiny-llama", "tiny-qwen2"]
        assert benchmark.ensemble.config.num_speculative_tokens == 0
    assert set(findings[0].milliseconds) == {"ensemble", "limit", "tiny-llama", "tiny-qwen2"}
    assert all(finding.value.low > 0 and finding.wants == "at most" for finding in findings)
    assert "GB a token" in findings[2].note


def test_a_shapes_tokenizer_is_found_by_its_name_and_any_other_is_taken_else(folder):
    assert [path.name for path in find_tokenizers(folder, ["mistral", "qwen2"])] == ["another", "qwen2-toy"]
    with pytest.raises(ConfigError, match=r"--tokenizers must name a folder with 3 folders or more .* has 2"):
        find_tokenizers(folder, ["a", "b", "c"])


def test_a_shape_that_is_not_known_is_refused(folder):
    with pytest.raises(ConfigError, match="--shapes must be one of 7b, 135m, tiny; got '8b'"):
        ShapesBenchmark("8b", folder)


def test_a_token_reads_all_weights_but_a_table_of_embeddings_that_is_no_head():
    tied, untied = make_model("gpt2"), make_model("llama")
    assert count_read_bytes(tied) == sum(weight.nbytes for weight in tied.parameters())
    table = untied.get_input_embeddings().weight.nbytes
    assert count_read_bytes(untied) == sum(weight.nbytes for weight in untied.parameters()) - table


@pytest.mark.parametrize(("name", "num_billions"), [("7b", (7.2, 7.6)), ("135m", (0.12, 0.17))])
def test_shapes_have_the_sizes_of_the_models_that_they_are_named_after(name, num_billions):
    for shape, expected in zip(SHAPES[name], num_billions, strict=True):
        with torch.device("meta"):
            from transformers import AutoModelForCausalLM

            model = AutoModelForCausalLM.from_config(shape.config_class(**shape.sizes))
        assert model.num_parameters() / 1e9 == pytest.approx(expected, rel=0.05)
