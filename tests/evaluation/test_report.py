from __future__ import annotations

import json
import math

import pytest

from deepen_llm import EnsembleConfig
from deepen_llm.evaluation.estimates import Estimate
from deepen_llm.evaluation.report import (
    format_estimate,
    write_json,
    write_markdown,
)
from deepen_llm.evaluation.scores import Cost, Scores
from deepen_llm.evaluation.systems import System, SystemResult, TaskResult
from deepen_llm.evaluation.tasks import BITS_PER_BYTE, Task

COST = Cost(
    num_tokens=30, seconds=2.0, num_steps=30, num_fused=12, num_extra_rows=0, num_extra_passes=0, num_shortened=0
)


class Named(Task):
    num_requests = 4

    def __init__(self, name):
        self.name, self.about = name, f"About {name}."

    def run(self, runner):
        raise AssertionError("reports do not run")


def shares(*values):
    return TaskResult(Scores(tuple(map(float, values)), (1.0,) * len(values)), COST)


def bits(*values):
    return TaskResult(Scores(values, (8.0,) * len(values), is_share=False), COST)


def make_result(name, *, is_member, **outcomes):
    system = System(name, EnsembleConfig(members=("a",)), is_member)
    return SystemResult(system, {"main": name}, {task.replace("_", " "): outcome for task, outcome in outcomes.items()})


@pytest.fixture
def results():
    return [
        make_result(
            "a|b alone",
            is_member=True,
            facts=shares(1, 1, 1, 0),
            sums=shares(0, 0, 0, 0),
            bits_per_byte=bits(16.0, 8.0),
        ),
        make_result(
            "c alone", is_member=True, facts=shares(0, 0, 1, 0), sums=shares(1, 1, 0, 0), bits_per_byte=bits(24.0, 8.0)
        ),
        make_result(
            "ensemble, default",
            is_member=False,
            facts=shares(1, 1, 1, 1),
            sums=shares(1, 1, 1, 0),
            bits_per_byte=bits(12.0, 8.0),
        ),
    ]


TASKS = [Named("facts"), Named("sums"), Named(BITS_PER_BYTE)]


def line_of(page, section, name):
    part = page.split(f"## {section}")[1].split("\n## ")[0]
    return next(line for line in part.splitlines() if line.startswith(f"| {name}"))


def test_the_page_has_every_value_with_its_interval(results):
    page = write_markdown(results, TASKS, {"limit": 4}, "report.svg")
    assert line_of(page, "Results", "facts, 4") == (
        "| facts, 4 | 75.0 (30.1 to 95.4) | 25.0 (4.6 to 69.9) | 100.0 (51.0 to 100.0) |"
    )
    assert "1.500 (1.000 to 2.000)" in line_of(page, "Results", "bits per byte, 2")
    assert line_of(page, "Results", "**mean over tasks**").split("|")[4].strip().startswith("87.5 (")
    assert "![The results with their intervals](report.svg)" in page
    assert "a\\|b alone" in page and "- **facts**: About facts." in page


def test_the_best_member_is_found_task_by_task(results):
    page = write_markdown(results, TASKS, {}, None)
    assert line_of(page, "Against", "sums").startswith("| sums | c | +25.0 (+0.0 to +75.0)")
    assert "report.svg" not in page
    assert line_of(page, "Against", "bits per byte").startswith("| bits per byte | a\\|b | -0.250")


def test_what_was_scored_of_the_options_stands_beside_the_result(results):
    facts, sums = Named("facts"), Named("sums")
    facts.score_by = "text"
    page = write_markdown(results, [facts, sums], {}, None)
    assert line_of(page, "Results", "facts").startswith("| facts, 4, by text | 75.0")
    assert line_of(page, "Results", "sums").startswith("| sums, 4 |")
    assert write_json(results, [facts, sums], {})["score_by"] == {"facts": "text"}


def test_cost_shows_the_share_of_fused_steps_of_ensembles_only(results):
    line = line_of(write_markdown(results, TASKS, {}, None), "Cost", "facts")
    assert line == "| facts | 15.0 | 15.0 | 15.0 (40%) |"


def test_refusals_notes_and_shortened_prompts_are_told(results):
    results[0].tasks["facts"] = TaskResult(None, COST, refusal="cannot express <it>", notes=("Unknown tokens.",))
    results[2].tasks["sums"] = TaskResult(shares(1, 1, 1, 0).scores, Cost(1, 1.0, 1, 1, 0, 0, num_shortened=3))
    page = write_markdown(results, TASKS, {}, None)
    assert "left out" in line_of(page, "Results", "facts, 4")
    assert "facts: left out. cannot express &lt;it>" in page
    assert "facts: Unknown tokens." in page
    assert "sums: ensemble, default 3." in page
    assert line_of(page, "Results", "**mean over tasks**").split("|")[2].strip() == "-"


def test_members_that_did_nothing_leave_no_comparison(results):
    page = write_markdown(results[2:], TASKS, {}, None)
    assert "## Against" not in page


def test_one_task_alone_has_no_mean(results):
    page = write_markdown(results, [Named("facts"), Named(BITS_PER_BYTE)], {}, None)
    assert "mean over tasks" not in page


def test_infinite_bits_are_words_on_the_page_and_null_in_json(results):
    results[2].tasks[BITS_PER_BYTE] = bits(math.inf, 8.0)
    assert "infinite" in line_of(write_markdown(results, TASKS, {}, None), "Results", "bits per byte")
    values = json.loads(json.dumps(write_json(results, TASKS, {}), allow_nan=False))
    assert values["results"][2]["outcomes"][BITS_PER_BYTE]["values"] == [None, 8.0]


def test_json_holds_every_answer_and_what_tells_the_systems_apart(results):
    values = write_json(results, TASKS, {"limit": 4})
    entry = values["results"][1]
    assert (entry["name"], entry["is_member"], entry["identity"]) == ("c alone", True, {"main": "c alone"})
    assert entry["outcomes"]["sums"]["values"] == [1.0, 1.0, 0.0, 0.0]
    assert entry["outcomes"]["sums"]["value"] == 0.5
    assert entry["outcomes"]["sums"]["cost"]["tokens_per_s"] == 15.0


def test_values_are_written_with_as_many_digits_as_they_deserve():
    estimate = Estimate(0.5, 0.25, 0.75)
    assert format_estimate(estimate, is_share=True) == "50.0 (25.0 to 75.0)"
    assert format_estimate(Estimate(0.5, math.nan, math.nan), is_share=False) == "0.500 (no interval)"
    assert format_estimate(estimate, is_share=False, sign="+") == "+0.500 (+0.250 to +0.750)"
