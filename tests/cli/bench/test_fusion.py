from __future__ import annotations

import json
import sys

import pytest

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


@pytest.fixture
def tokenizer_folders(tmp_path):
    folders = []
    for name in ("byte_level_bpe", "sentencepiece_bpe"):
        folders.append(tmp_path / name)
        getattr(toy_tokenizers, name)().save_pretrained(folders[-1])
    return folders


def test_bench_fusion_makes_members_of_tokenizers_at_every_size(deepen, tokenizer_folders, tmp_path):
    file = tmp_path / "fusion.json"
    sizes = ("--size", 200, "--size", 400)
    result = deepen(
        "bench", "fusion", "-t", *tokenizer_folders, *sizes, "--hidden", 16, "--steps", 4, "-r", 1, "--json", file
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("best token as the reference, 4 steps") == 2
    assert "at least 99.5% of 2,000 steps" in result.stdout
    assert "µs" in result.stdout and "at most 100 MB" in result.stdout
    written = json.loads(file.read_text())
    assert [max(entry["num_tokens"]) for entry in written["figures"]] == [200, 400]
    first = written["figures"][0]
    assert first["hidden"] == [16, 16] and first["comparison"]["num_steps"] == 4
    assert {"build_s", "member_bytes", "share_equal"} <= {target["name"] for target in first["targets"]}
    assert written["growth"] is None and written["machine"]["torch"]


@pytest.mark.parametrize(("num_asked", "num_found"), [(60, 60), (10_000, 87)])
def test_bench_fusion_records_as_many_steps_as_are_compared_while_there_are_prompts(
    deepen, use_ensemble, make_ensemble, tmp_path, num_asked, num_found
):
    asked = use_ensemble(make_ensemble(["a story."]))
    file = tmp_path / "fusion.json"
    result = deepen("bench", "fusion", "-m", "one", "-m", "other", "--steps", num_asked, "-r", 1, "--json", file)
    assert result.exit_code == 0, result.stderr
    assert asked[0].model == ["one", "other"]
    entry = json.loads(file.read_text())["figures"][0]
    assert entry["comparison"]["num_steps"] == num_found
    assert entry["dense_published_ms"]["runs"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", 100), "--size can only be given with --tokenizers"),
        (("--hidden", 16), "--hidden can only be given with --tokenizers"),
        (("-t", "one", "other", "-m", "model"), "give either --tokenizers or models"),
    ],
)
def test_bench_fusion_passes_over_no_option_in_silence(deepen, arguments, message):
    result = deepen("bench", "fusion", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_bench_fusion_finds_out_first_that_it_cannot_draw(deepen, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = deepen("bench", "fusion", "--plot", tmp_path / "cost.png")
    assert result.exit_code == 1
    assert "pip install 'deepen-llm[bench]'" in result.stderr


def test_one_member_has_nothing_to_fuse(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble(["a story."], kinds=("bpe",)))
    assert "needs two members; got 1" in deepen("bench", "fusion").stderr


def test_a_folder_that_holds_something_else_is_no_tokenizer(deepen, tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"model": 3}')
    (tmp_path / "config.json").write_text("[]")
    result = deepen("bench", "fusion", "--tokenizers", tmp_path, tmp_path)
    assert result.exit_code == 1
    assert "cannot be read as one" in result.stderr
