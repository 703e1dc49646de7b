from __future__ import annotations

import json
import sys

import pytest
from rich.console import Console

from deepen_llm.bench.decode import Finding
from deepen_llm.bench.timing import Spread
from deepen_llm.cli.bench import findings_table
from tests import toy_tokenizers


def test_bench_decode_shows_every_finding_and_writes_json(deepen, use_ensemble, make_ensemble, monkeypatch, tmp_path):
    class Benchmark:
        def __init__(self, ensemble, *, num_tokens, num_repetitions):
            assert (num_tokens, num_repetitions) == (8, 1)

        def run(self):
            yield Finding("time per token", Spread((0.9,)), 1.0, "at most", {"ensemble": 5.5}, "shortened")
            yield Finding("of 16 threads", Spread((16.0,)), 16.0, "at least")

    monkeypatch.setattr("deepen_llm.bench.decode.DecodeBenchmark", Benchmark)
    use_ensemble(make_ensemble(["a story."]))
    file = tmp_path / "decode.json"
    result = deepen("bench", "decode", "-n", 8, "-r", 1, "--json", file)
    assert result.exit_code == 0, result.stderr
    assert "ensemble 5.50 ms" in result.stdout and "shortened" in result.stdout
    written = json.loads(file.read_text())
    findings = written["findings"]
    assert [(finding["median"], finding["is_met"]) for finding in findings] == [(0.9, True), (16.0, True)]
    assert all(finding["name"] in result.stdout for finding in findings)
    assert written["machine"]["torch"] and len(written["ensemble"]["members"]) == 2


@pytest.mark.parametrize("where", ["missing/decode.json", "."])
def test_a_json_file_that_cannot_be_written_is_refused_before_measuring(deepen, tmp_path, where):
    result = deepen("bench", "decode", "--json", tmp_path / where)
    assert result.exit_code == 1
    assert "--json must name a file in a folder that exists" in result.stderr


def test_one_member_cannot_be_compared(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble(["a story."], kinds=("bpe",)))
    result = deepen("bench", "decode")
    assert result.exit_code == 1
    assert "needs two members; got 1" in result.stderr


def test_the_table_shows_median_spread_and_target():
    console = Console(width=120)
    with console.capture() as capture:
        console.print(findings_table([Finding("speed", Spread((1.0, 3.0, 2.0)), 4.0, "at least")]))
    assert "2.00 (1.00 to 3.00)" in capture.get()
    assert "at least 4" in capture.get()


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
