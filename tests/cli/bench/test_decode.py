from __future__ import annotations

import json

import pytest
from rich.console import Console

from deepen_llm.bench.decode import Finding
from deepen_llm.bench.timing import Spread
from deepen_llm.cli.bench.decode import findings_table
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


def test_random_models_of_real_sizes_need_tokenizers(deepen):
    result = deepen("bench", "decode", "--shapes", "7b")
    assert result.exit_code == 1
    assert "--shapes needs real tokenizers: name a folder that holds some with --tokenizers" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tokenizers", "."), "--tokenizers are those of --shapes"),
        (("--shapes", "7b", "--plot", "step.svg"), "--shapes makes models of its own and draws nothing"),
        (("--shapes", "7b", "-m", "a", "-m", "b"), "--shapes makes models of its own and draws nothing"),
    ],
)
def test_options_that_mean_nothing_together_are_refused(deepen, options, message):
    result = deepen("bench", "decode", *options)
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())


def test_random_models_are_measured_and_written(deepen, tmp_path):
    for name, tokenizer in (("a", toy_tokenizers.byte_level_bpe()), ("b", toy_tokenizers.sentencepiece_bpe())):
        tokenizer.save_pretrained(tmp_path / name)
    file = tmp_path / "shapes.json"
    options = ("--shapes", "tiny", "--tokenizers", tmp_path, "-n", 8, "-r", 1, "--json", file)
    result = deepen("bench", "decode", *options)
    assert result.exit_code == 0, result.stderr
    assert "at the speed of a copy" in result.stdout
    assert len(json.loads(file.read_text())["findings"]) == 3


def test_how_a_steps_time_divides_is_drawn_and_written(deepen, use_ensemble, make_ensemble, tmp_path):
    pytest.importorskip("matplotlib")
    use_ensemble(make_ensemble(["a story about a cat and a dog."]))
    picture, file = tmp_path / "step.svg", tmp_path / "step.json"
    result = deepen("bench", "decode", "--plot", picture, "-n", 8, "-r", 1, "--json", file)
    assert result.exit_code == 0, result.stderr
    assert "the members' passes" in result.stdout and picture.read_text().startswith("<?xml")
    assert [division["num_prompts"] for division in json.loads(file.read_text())["divisions"]] == [1, 8]
