from __future__ import annotations

import contextlib
import json

import pytest

pytest.importorskip("fastapi")

from deepen_llm.bench import serve_process
from tests.server.serving import serving
from tests.test_ensemble import TEXTS


def test_bench_serve_says_what_a_server_adds(deepen, use_ensemble, make_ensemble, monkeypatch, tmp_path):
    ensemble = make_ensemble(TEXTS)
    use_ensemble(ensemble)

    @contextlib.contextmanager
    def serve(config):
        assert config == ensemble.config
        with serving(ensemble) as server:
            yield server.address

    monkeypatch.setattr(serve_process, "serving", serve)
    file = tmp_path / "serve.json"
    result = deepen("bench", "serve", "--users", 2, "-n", 8, "-r", 1, "--json", file)
    assert result.exit_code == 0, result.stderr
    assert "of the engine's tokens a second, 2 users, streams" in result.stdout
    written = json.loads(file.read_text())
    assert [finding["target"] for finding in written["findings"]] == [2.0, 0.9, 0.9]


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(deepen, use_ensemble, make_ensemble):
    use_ensemble(make_ensemble(TEXTS))
    result = deepen("bench", "serve", "--json", "missing/serve.json")
    assert result.exit_code == 1
    assert "--json must name a file in a folder that exists" in " ".join(result.stderr.replace("│", " ").split())
