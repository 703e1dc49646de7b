from __future__ import annotations

import json

from deepen_llm.bench.decode import Finding
from deepen_llm.bench.timing import Spread


def test_bench_prefix_shows_every_finding_and_writes_json(deepen, use_ensemble, make_ensemble, monkeypatch, tmp_path):
    closed = []

    class Benchmark:
        def __init__(self, ensemble, *, num_context, num_questions, num_tokens, num_repetitions):
            assert (num_context, num_questions, num_tokens, num_repetitions) == (300, 4, 8, 1)

        def run(self):
            yield Finding("second turn", Spread((0.1,)), 0.15, "at most", {"second turn": 5.5})

        def close(self):
            closed.append(True)

    monkeypatch.setattr("deepen_llm.bench.prefix.PrefixBenchmark", Benchmark)
    use_ensemble(make_ensemble(["a story."], kinds=("bpe",)))
    file = tmp_path / "prefix.json"
    result = deepen("bench", "prefix", "--context", 300, "--questions", 4, "-n", 8, "-r", 1, "--json", file)
    assert result.exit_code == 0, result.stderr
    assert "second turn 5.50 ms" in result.stdout and closed
    assert json.loads(file.read_text())["findings"][0]["is_met"]
