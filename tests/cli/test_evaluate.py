from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from deepen_llm.evaluation.runner import Runner
from deepen_llm.starter import MODEL_NAMES

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def _restore(monkeypatch):
    """The command silences other loggers and progress bars; other tests must not notice."""
    monkeypatch.setenv("TQDM_DISABLE", "1")
    names = ("lm_eval", "deepen_llm.evaluation.harness")
    levels = [logging.getLogger(name).level for name in names]
    yield
    for name, level in zip(names, levels, strict=True):
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def count_requests(monkeypatch):
    """How many requests the models were asked, in a list that a test may read at any time."""
    asked, ask = [], Runner._ask

    def record(self, missing, report):
        asked.extend(missing)
        ask(self, missing, report)

    monkeypatch.setattr(Runner, "_ask", record)
    return asked


def read_report(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_help_teaches_with_examples(deepen):
    result = deepen("eval", "--help")
    assert result.exit_code == 0
    assert "deepen eval starter --limit 20" in result.stdout.split("Examples:")[1]
    assert all(
        name in result.stdout
        for name in ("--method", "--data-dir", "--each-member", "--text", "--score-by", "arc_challenge")
    )


def test_members_and_methods_are_compared_and_a_second_run_asks_nothing(deepen, tmp_path, count_requests):
    text = tmp_path / "text.txt"
    text.write_text("The capital of Kenya is Nairobi. The symbol of gold is Au.\n", encoding="utf-8")
    output = tmp_path / "out" / "deep"
    command = ["eval", "capitals", "--text", text, "--limit", 2, "--method", "default", "--method", "published"]
    result = deepen(*command, "--output", output)
    assert result.exit_code == 0, result.stderr
    systems = [*(f"{name} alone" for name in MODEL_NAMES), "ensemble, default", "ensemble, published"]
    values = read_report(output)
    assert [entry["name"] for entry in values["results"]] == systems
    assert all(set(entry["outcomes"]) == {"capitals", "bits per byte"} for entry in values["results"])
    assert (
        values["results"][3]["outcomes"]["bits per byte"]["value"]
        < values["results"][0]["outcomes"]["bits per byte"]["value"]
    )
    page = (output / "report.md").read_text(encoding="utf-8")
    assert all(name in page and name in result.stdout for name in systems)
    assert (output / "report.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert len(count_requests) == 5 * 3

    assert deepen(*command, "--output", output).exit_code == 0
    assert len(count_requests) == 5 * 3
    assert read_report(output) == values

    fewer = (*command, "--output", output, "--fresh", "--no-each-member")
    assert "also of the system" in deepen(*fewer).stderr
    assert read_report(output) == values
    assert deepen(*fewer, "--overwrite").exit_code == 0
    assert len(count_requests) == 5 * 3 + 2 * 3
    assert [entry["name"] for entry in read_report(output)["results"]] == systems[3:]


def test_an_interrupted_run_goes_on_where_it_stopped(deepen, tmp_path, monkeypatch, count_requests):
    keep, kept = Runner._keep, []

    def interrupt(self, key, future):
        keep(self, key, future)
        kept.append(key)
        if len(kept) == 4:
            raise KeyboardInterrupt

    command = ("eval", "elements", "--limit", 3, "--no-each-member", "--method", "default", "--method", "published")
    monkeypatch.setattr(Runner, "_keep", interrupt)
    assert deepen(*command, "-o", tmp_path).exit_code == 130
    assert not (tmp_path / "report.json").exists()
    monkeypatch.setattr(Runner, "_keep", keep)
    done = len((tmp_path / "requests.jsonl").read_text().splitlines())
    assert done >= 4
    count_requests.clear()
    assert deepen(*command, "-o", tmp_path).exit_code == 0
    assert len(count_requests) == 6 - done


def test_all_six_tasks_of_the_paper_run_offline_from_a_folder(deepen, tmp_path):
    if not DATA.is_dir():
        pytest.skip("the questions lie in ../shared, which is not here")
    result = deepen("eval", "paper", "--data-dir", DATA, "--limit", 1, "--no-each-member", "-o", tmp_path)
    assert result.exit_code == 0, result.stderr
    (entry,) = read_report(tmp_path)["results"]
    assert sorted(entry["outcomes"]) == ["arc_challenge", "gsm8k", "mmlu", "nq", "piqa", "triviaqa"]
    assert all(len(outcome["values"]) == 1 for outcome in entry["outcomes"].values())


def test_questions_are_asked_in_the_members_chat_templates(deepen, tmp_path):
    (tmp_path / "piqa").mkdir()
    row = {"goal": "to rest", "sol1": "sleep", "sol2": "run", "label": 0}
    (tmp_path / "piqa" / "validation.jsonl").write_text(json.dumps(row) + "\n")
    result = deepen("eval", "piqa", "--chat", "--data-dir", tmp_path, "--no-each-member", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert '"chat": true' in (tmp_path / "out" / "report.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "way", "why"),
    [
        (("--score-by", "letter"), "letter", "By letter: "),
        (("--score-by", "text"), "text", "By text: "),
        ((), "text", "no member's letters are above chance"),
        (("--limit", "3"), "text", "3 questions are too few"),
    ],
)
def test_what_is_scored_of_the_options_is_settled_once_and_told(deepen, tmp_path, arguments, way, why):
    (tmp_path / "piqa").mkdir()
    rows = [{"goal": f"to rest {n}", "sol1": "sleep", "sol2": "run", "label": n % 2} for n in range(6)]
    (tmp_path / "piqa" / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = deepen("eval", "piqa", "--data-dir", tmp_path, *arguments, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    values, page = read_report(tmp_path / "out"), (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert values["score_by"] == {"piqa": way} and why in values["tasks"]["piqa"]
    assert f", by {way} |" in page and why in page and why in " ".join(result.stdout.split())


def test_weights_that_each_prompt_chooses_are_a_word_in_the_report(deepen, tmp_path):
    result = deepen("eval", "capitals", "--limit", 1, "--weight", "prompt", "--no-each-member", "-o", tmp_path)
    assert result.exit_code == 0, result.stderr
    assert read_report(tmp_path)["settings"]["weights"] == "prompt"
    assert "- weights: prompt\n" in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "give at least one task"),
        (("mmul",), 1, "there is no task 'mmul': the known ones are"),
        (("no/such.yaml",), 1, "file at 'no/such.yaml'"),
        (("capitals", "--method", "voting"), 1, "there is no method 'voting': the known ones are default"),
        (("capitals", "--method", "configured"), 1, "is what a --config file says"),
        (("capitals", "--limit", "0"), 2, "--limit"),
        (("--text", "no-such.txt"), 1, "--text cannot be read: No such file"),
    ],
)
def test_wrong_usage_says_what_is_wrong(deepen, tmp_path, arguments, code, message):
    result = deepen("eval", *arguments, "-o", tmp_path / "out")
    assert result.exit_code == code
    assert message in result.stderr


def test_a_data_folder_without_the_file_names_the_path(deepen, tmp_path):
    result = deepen("eval", "mmlu", "--data-dir", tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert f"{tmp_path}/mmlu/test.jsonl" in result.stderr


def test_an_output_that_is_a_file_is_refused(deepen, tmp_path):
    (tmp_path / "out").write_text("")
    result = deepen("eval", "capitals", "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert "--output must name a folder" in result.stderr


def test_a_text_without_an_end_is_refused_before_models_are_loaded(deepen, use_ensemble, tmp_path):
    asked = use_ensemble(None)
    result = deepen("eval", "--text", "/dev/zero", "--output", tmp_path)
    assert result.exit_code == 1
    assert "--text cannot be read: it has more than 200,000,000 bytes" in result.stderr
    assert not asked
