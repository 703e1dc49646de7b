from __future__ import annotations

import json

from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers


def test_bench_fusion_measures_tokenizers_and_writes_files(deepen, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "deepen_llm.cli.bench.fusion._read_vocabulary",
        lambda name: Vocabulary.from_tokenizer(getattr(toy_tokenizers, name)(), name=name),
    )
    file, picture = tmp_path / "fusion.json", tmp_path / "cost.png"
    options = ("--size", 300, "--hidden", 16, "--steps", 8, "-r", 1, "--json", file, "--plot", picture)
    result = deepen("bench", "fusion", "--tokenizers", "byte_level_bpe", "unigram", *options)
    assert result.exit_code == 0, result.stderr
    assert "300 + 300 tokens" in result.stdout and "best token as the reference" in result.stdout
    written = json.loads(file.read_text())
    assert written["figures"][0]["num_tokens"] == [300, 300] and written["machine"]["torch"]
    assert picture.stat().st_size > 1000


def test_bench_fusion_records_the_steps_of_models(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble(["a story.", "more"]))
    result = deepen("bench", "fusion", "-m", "one", "-m", "two", "--steps", 8, "-r", 1)
    assert result.exit_code == 0, result.stderr
    assert "KL divergence" in result.stdout


def test_a_tokenizer_that_is_not_there_is_named(deepen, tmp_path):
    result = deepen("bench", "fusion", "--tokenizers", tmp_path / "a", tmp_path / "b")
    assert result.exit_code == 1
    assert "--tokenizers must name folders or hub names" in result.stderr
