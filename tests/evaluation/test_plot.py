from __future__ import annotations

import math
import sys

import pytest

from deepen_llm import EnsembleConfig
from deepen_llm.errors import MissingDependencyError
from deepen_llm.evaluation.plot import check_matplotlib, plot_results
from deepen_llm.evaluation.scores import Cost, Scores
from deepen_llm.evaluation.systems import System, SystemResult, TaskResult

COST = Cost.of([])
TASKS = ["facts", "sums", "reading", "maps", "bits per byte"]


def make_result(name, *, is_member):
    share = TaskResult(Scores((1.0, 0.0), (1.0, 1.0)), COST)
    outcomes = dict.fromkeys(TASKS[:3], share)
    refused, infinite = (
        TaskResult(None, COST, refusal="no"),
        TaskResult(Scores((math.inf,), (1.0,), is_share=False), COST),
    )
    return SystemResult(
        System(name, EnsembleConfig(members=("a",)), is_member),
        {},
        {**outcomes, "maps": refused, "bits per byte": infinite},
    )


def test_the_picture_names_tasks_and_systems_and_is_the_same_each_time(tmp_path):
    results = [make_result("llama alone", is_member=True), make_result("ensemble, default", is_member=False)]
    for name in ("one.svg", "two.svg"):
        plot_results(results, TASKS, tmp_path / name)
    drawn = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert all(text in drawn for text in (*TASKS, "llama alone", "ensemble, default", "right answers in %"))
    assert drawn == (tmp_path / "two.svg").read_text(encoding="utf-8")


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'deepen-llm\[eval\]'"):
        check_matplotlib()
