from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from deepen_llm.errors import ConfigError, MissingDependencyError
from deepen_llm.evaluation.items import Item, load_items
from deepen_llm.evaluation.task_file import TASKS_FOLDER, TaskFile

DATA = Path(__file__).parents[3] / "shared" / "data"
SIZES = {"mmlu": 14042, "arc_challenge": 1172, "gsm8k": 1319, "piqa": 1838, "triviaqa": 6000, "nq": 3610}


def load(name):
    return TaskFile.load(TASKS_FOLDER / f"{name}.yaml")


@pytest.fixture
def write_rows(tmp_path):
    def write(name, rows):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
        return tmp_path

    return write


@pytest.mark.parametrize("name", SIZES)
def test_every_task_reads_its_local_file_whole(name):
    if not DATA.is_dir():
        pytest.skip("the questions lie in ../shared, which is not here")
    items = load_items(load(name), DATA)
    assert len(items) == SIZES[name]
    assert all(item.prompt.endswith("Answer:") and (item.accepted or item.num_options > 1) for item in items)


@pytest.mark.parametrize("name", ["gsm8k", "triviaqa", "nq"])
def test_no_example_is_a_question_of_the_data(name):
    if not DATA.is_dir():
        pytest.skip("the questions lie in ../shared, which is not here")
    asked = {
        line.casefold() for path in DATA.glob("*/*.jsonl") for line in path.read_text(encoding="utf-8").split("\n")
    }
    for example in load(name).examples:
        assert not any(example["question"].casefold().rstrip("?") in line for line in asked)


def test_examples_of_the_same_subject_come_before_the_question(write_rows):
    def row(subject, number):
        return {
            "subject": subject,
            "question": f"{subject} {number}?",
            "choices": ["w", "x", "y", "z"],
            "answer": number % 4,
        }

    write_rows("mmlu/dev.jsonl", [row(subject, n) for n in range(7) for subject in ("art_history", "botany")])
    folder = write_rows("mmlu/test.jsonl", [row("botany", 9)])
    (item,) = load_items(load("mmlu"), folder)
    assert "on botany has" in item.prompt and "art" not in item.prompt
    assert [f"botany {n}?" in item.prompt for n in (0, 4, 5, 9)] == [True, True, False, True]
    assert "A. w\nB. x\nC. y\nD. z\nAnswer: D\n\nQuestion: botany 4?" in item.prompt
    assert (item.num_options, item.right_option) == (4, 1)


def test_by_text_the_same_examples_show_the_right_options_text_and_no_options(write_rows):
    row = {"subject": "botany", "question": " Why? ", "choices": ["w", " x ", "y", 4], "answer": 1}
    write_rows("mmlu/dev.jsonl", [{**row, "question": f"{n}?"} for n in range(7)])
    (item,) = load_items(load("mmlu"), write_rows("mmlu/test.jsonl", [row]))
    shown = "".join(f"Question: {n}?\nAnswer: x\n\n" for n in range(5))
    assert item.text_prompt == f"Questions on botany, each with its answer.\n\n{shown}Question: Why?\nAnswer:"
    assert item.options == ("w", "x", "y", "4")
    assert "letter" in item.prompt and "letter" not in item.text_prompt


def test_arc_and_piqa_are_asked_by_text_as_lm_eval_asks_them(write_rows):
    rows = [{"goal": "rest", "sol1": "sleep", "sol2": "run ", "label": 0}]
    (item,) = load_items(load("piqa"), write_rows("piqa/validation.jsonl", rows))
    assert (item.text_prompt, item.options) == ("Question: rest\nAnswer:", ("sleep", "run"))
    rows = [{"question": "Q?", "A": "one", "B": "two", "C": "three", "D": "", "answer": "B"}]
    (item,) = load_items(load("arc_challenge"), write_rows("arc_challenge/test.jsonl", rows))
    assert (item.text_prompt, item.options) == ("Question: Q?\nAnswer:", ("one", "two", "three", ""))


def test_a_task_that_is_scored_by_letter_needs_no_examples_by_text(write_rows):
    task = load("piqa").replace(score_by="letter", examples=({"question": "G", "choices": ["a"], "gold": 7},))
    folder = write_rows("piqa/validation.jsonl", [{"goal": "rest", "sol1": "sleep", "sol2": "run", "label": 0}])
    with pytest.raises(
        ConfigError, match="task 'piqa': an example by text uses a field that the question does not have"
    ):
        load_items(task.replace(score_by="text", target="x"), folder)
    (item,) = load_items(task.replace(target="x"), folder)
    assert item.text_prompt == ""


def test_an_answer_given_as_the_options_number_counts(write_rows):
    options = {"A": "one", "B": "two", "C": "three", "D": "four"}
    rows = [{"question": "Q?", **options, "answer": "3"}, {"question": "Q?", **options, "answer": "C"}]
    items = load_items(load("arc_challenge"), write_rows("arc_challenge/test.jsonl", rows))
    assert [item.right_option for item in items] == [2, 2]


def test_all_aliases_of_an_answer_are_accepted_and_doubled_quotation_marks_undone(write_rows):
    rows = [{"question": '"Who said ""no""?"', "answer": ["Ann", "Ann Lee"]}]
    (item,) = load_items(load("triviaqa"), write_rows("triviaqa/test.jsonl", rows))
    assert item.accepted == ("Ann", "Ann Lee")
    assert item.prompt.endswith('Question: Who said "no"?\nAnswer:')


def test_a_sample_is_the_same_each_time_and_part_of_a_larger_one(write_rows):
    rows = [{"question": f"number {n}?", "answer": ["x"]} for n in range(50)]
    folder = write_rows("nq_open/validation.jsonl", rows)
    few, more, everything = (load_items(load("nq"), folder, limit) for limit in (5, 12, 50))
    assert few == more[:5] == load_items(load("nq"), folder, 5)
    assert few != everything[:5]
    assert "number 0?".capitalize() in everything[0].prompt


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "Q?"}], r"validation\.jsonl:1: field 'answers' cannot be read"),
        ([{"question": "Q?", "answer": ["x"]}, "{\n"], r"validation\.jsonl:2 is not JSON"),
        (["[1]\n"], "1 must be an object; got list"),
        (["\n"], "holds no questions"),
        ([{"question": "Q?", "answer": "x"}], "answers must be a list of at least one text; got 'x'"),
        ([{"question": "Q?", "answer": []}], "answers must be a list of at least one text; got"),
    ],
)
def test_rows_that_cannot_be_used_are_named(write_rows, rows, message):
    with pytest.raises(ConfigError, match=message):
        load_items(load("nq"), write_rows("nq_open/validation.jsonl", rows))


def test_a_right_option_that_there_is_not_is_refused(write_rows):
    rows = [{"goal": "G", "sol1": "a", "sol2": "b", "label": 2}]
    with pytest.raises(ConfigError, match=r"validation\.jsonl:1: gold must be the position of one of 2 choices; got 2"):
        load_items(load("piqa"), write_rows("piqa/validation.jsonl", rows))


def test_a_data_folder_without_the_file_is_named_by_the_path(tmp_path):
    with pytest.raises(
        ConfigError, match=rf"task 'piqa' cannot be read: .*'{tmp_path}/piqa/validation\.jsonl'.*give the folder"
    ):
        load_items(load("piqa"), tmp_path)


def test_the_hub_is_read_by_its_own_fields(monkeypatch):
    asked = []

    def load_dataset(*arguments, split):
        asked.append((*arguments, split))
        return [{"question": "Q?", "choices": {"text": ["a", "b", "c"], "label": ["1", "2", "3"]}, "answerKey": "2"}]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    (item,) = load_items(load("arc_challenge"), None)
    assert asked == [("allenai/ai2_arc", "ARC-Challenge", "test")]
    assert item == Item(item.prompt, options=("a", "b", "c"), right_option=1, text_prompt="Question: Q?\nAnswer:")


def test_a_hub_that_does_not_answer_is_told_with_the_way_out(monkeypatch):
    def load_dataset(*arguments, split):
        raise ConnectionError("no route")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(
        ConfigError, match="could not be loaded from 'baber/piqa' on the hub: no route; give a data folder"
    ):
        load_items(load("piqa"), None)


def test_a_missing_datasets_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'deepen-llm\[eval\]'"):
        load_items(load("piqa"), None)
