from __future__ import annotations

import json

import pytest

from deepen_llm import EnsembleConfig
from deepen_llm.errors import ConfigError
from deepen_llm.evaluation.kept_report import check_nothing_lost
from deepen_llm.evaluation.systems import System
from deepen_llm.evaluation.tasks import Task, TextTask

SETTINGS = {"models": ("a", "b"), "weights": None, "limit": 5}


class Asked(Task):
    def __init__(self, name):
        self.name = name

    def run(self, runner):
        raise NotImplementedError


def systems(*names):
    return [System(name, EnsembleConfig(members=("a",)), is_member=False) for name in names]


@pytest.fixture
def folder(tmp_path):
    """A folder with the report of a run of one task and one system."""
    kept = {"settings": SETTINGS, "tasks": {"mmlu": "about"}, "results": [{"name": "ensemble"}]}
    (tmp_path / "report.json").write_text(json.dumps(kept))
    return tmp_path


def test_the_same_run_and_one_that_holds_more_may_write_over_a_report(folder, tmp_path):
    check_nothing_lost(folder, SETTINGS, [Asked("mmlu")], systems("ensemble"))
    check_nothing_lost(folder, SETTINGS, [Asked("mmlu"), Asked("gsm8k")], systems("a alone", "ensemble"))
    check_nothing_lost(tmp_path / "new", SETTINGS, [Asked("piqa")], systems("ensemble"))


@pytest.mark.parametrize(
    ("settings", "tasks", "names", "difference"),
    [
        ({**SETTINGS, "limit": 6}, ["mmlu"], ["ensemble"], "limit: 5 there, 6 now"),
        ({**SETTINGS, "limit": None}, ["mmlu"], ["ensemble"], "limit: 5 there, none now"),
        ({**SETTINGS, "weights": "prompt"}, ["mmlu"], ["ensemble"], "weights: none there, prompt now"),
        (SETTINGS, ["gsm8k"], ["ensemble"], "also of the task mmlu"),
        (SETTINGS, ["mmlu"], ["a alone"], "also of the system ensemble"),
    ],
)
def test_the_report_of_another_run_is_refused_with_the_difference(folder, settings, tasks, names, difference):
    with pytest.raises(ConfigError, match="holds the report of another run") as refused:
        check_nothing_lost(folder, settings, [Asked(name) for name in tasks], systems(*names))
    assert f"({difference})" in str(refused.value) and "--overwrite" in str(refused.value)


def test_another_text_is_another_run(tmp_path):
    text = TextTask([], "stories.txt")
    kept = {"settings": SETTINGS, "tasks": {text.name: "other.txt: 9 bytes"}, "results": [{"name": "ensemble"}]}
    (tmp_path / "report.json").write_text(json.dumps(kept))
    with pytest.raises(ConfigError, match="another text"):
        check_nothing_lost(tmp_path, SETTINGS, [text], systems("ensemble"))


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"settings": 3}', b"[" * 100_000])
def test_a_report_that_cannot_be_read_is_somebody_elses(tmp_path, content):
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read"):
        check_nothing_lost(tmp_path, SETTINGS, [Asked("mmlu")], systems("ensemble"))


def test_a_page_without_its_figures_is_somebody_elses(tmp_path):
    (tmp_path / "report.md").write_text("my notes")
    with pytest.raises(ConfigError, match="cannot be read"):
        check_nothing_lost(tmp_path, SETTINGS, [Asked("mmlu")], systems("ensemble"))
