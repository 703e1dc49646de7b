from __future__ import annotations

import json
import sys

import pytest

pytestmark = pytest.mark.usefixtures("event_loop_of_its_own")


def test_bench_retrieval_shows_who_is_right_how_often_and_how_soon_and_writes_json(deepen, tmp_path):
    file = tmp_path / "retrieval.json"
    result = deepen("bench", "retrieval", "--documents", 6, "--questions", 4, "--retrieve", 2, "--json", file)
    assert result.exit_code == 0, result.stderr
    assert "4 questions about 6 documents, 2 read for each" in result.stdout
    for text in ("langchain", "llama-index", "llama alone", "qwen2 alone", "the ensemble", "100.0%", " ms"):
        assert text in result.stdout, text
    assert "the best single member" in result.stdout
    written = json.loads(file.read_text())
    assert (written["num_documents"], written["num_questions"], written["num_retrieved"]) == (6, 4, 2)
    assert len(written["results"]) == 2 * 4 and written["machine"]["torch"] and len(written["members"]) == 3
    assert {entry["framework"] for entry in written["results"]} == {"langchain", "llama-index"}
    assert {entry["contestant"] for entry in written["results"]} >= {"llama alone", "the ensemble"}
    for entry in written["results"]:
        assert len(entry["answers"]) == 4
        assert entry["accuracy"]["value"] == sum(one["is_right"] for one in entry["answers"]) / 4
        assert 0 < entry["median_first_s"] <= entry["median_total_s"]


def test_one_model_and_one_framework_need_no_comparison(deepen, tmp_path):
    from deepen_llm.starter import model_paths

    options = ("--framework", "langchain", "--documents", 3, "--questions", 2)
    result = deepen("bench", "retrieval", "-m", model_paths()[0], *options)
    assert result.exit_code == 0, result.stderr
    assert "llama alone" in result.stdout
    assert "llama-index" not in result.stdout and "best single member" not in result.stdout


def test_without_a_number_every_fact_is_asked_for(deepen, monkeypatch):
    from deepen_llm.bench.retrieval import RetrievalBenchmark
    from deepen_llm.starter import model_paths

    seen = []
    monkeypatch.setattr(RetrievalBenchmark, "run", lambda self, *_: seen.append(self) or iter(()))
    result = deepen("bench", "retrieval", "-m", model_paths()[0], "--documents", 5)
    assert result.exit_code == 0, result.stderr
    assert len(seen[0].questions) == 15 and seen[0].frameworks == ("langchain", "llama-index")


def test_a_missing_framework_is_told_before_any_model_is_loaded(deepen, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "langchain_deepen", None)
    result = deepen("bench", "retrieval", "-m", str(tmp_path))
    assert result.exit_code == 1
    assert "pip install langchain-deepen bm25s" in result.stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--documents", 4, "--retrieve", 5), 2, "--retrieve must be at most --documents, 4; got 5"),
        (("--documents", 2, "--questions", 7), 1, "2 documents answer 1 to 6 questions; got 7"),
        (("--documents", 9999), 1, "documents can be made; got 9999"),
        (("--json", "missing/retrieval.json"), 1, "--json must name a file in a folder that exists"),
    ],
)
def test_what_cannot_be_asked_is_refused(deepen, options, code, message):
    result = deepen("bench", "retrieval", *options)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.replace("│", " ").split())
