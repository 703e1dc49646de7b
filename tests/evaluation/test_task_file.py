from __future__ import annotations

import re

import pytest
import yaml

from deepen_llm.errors import ConfigError
from deepen_llm.evaluation.task_file import TASKS_FOLDER, TaskFile
from deepen_llm.evaluation.tasks import TASK_FILES

TASK = {
    "task": "rivers",
    "about": "Rivers.",
    "kind": "short",
    "local": {"file": "rivers.jsonl"},
    "fields": {"question": "q", "answers": "[a]"},
    "prompt": "Question: {{ question }}\nAnswer:",
    "target": "{{ answers[0] }}",
}


CHOICE = {"kind": "choice", "fields": {"question": "q", "choices": "[a, b]", "gold": "0"}}


@pytest.fixture
def write_task(tmp_path):
    def write(**changes):
        values = {name: value for name, value in {**TASK, **changes}.items() if value is not None}
        path = tmp_path / "rivers.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return path

    return write


def test_the_files_that_come_with_the_library_are_the_six_tasks_of_the_paper():
    files = sorted(TASKS_FOLDER.glob("*.yaml"))
    assert tuple(path.stem for path in files) == TASK_FILES
    assert all(TaskFile.load(path).task == path.stem for path in files)


@pytest.mark.parametrize(
    ("name", "number"), [("gsm8k", 4), ("triviaqa", 5), ("nq", 5), ("arc_challenge", 0), ("piqa", 0)]
)
def test_the_papers_numbers_of_examples_are_written_out(name, number):
    assert len(TaskFile.load(TASKS_FOLDER / f"{name}.yaml").examples) == number


def test_mmlu_takes_five_examples_of_the_questions_subject():
    task = TaskFile.load(TASKS_FOLDER / "mmlu.yaml")
    assert (task.num_examples, task.examples_like) == (5, "subject")


def test_worked_examples_reach_the_number_that_they_state():
    for example in TaskFile.load(TASKS_FOLDER / "gsm8k.yaml").examples:
        claims = re.findall(r"([\d.]+) ([-+*/]) (\d+) = (\d+)", example["solution"])
        for left, sign, right, result in claims:
            worked = {"+": float.__add__, "-": float.__sub__, "*": float.__mul__, "/": float.__truediv__}[sign]
            assert worked(float(left), float(right)) == float(result)
        assert f"The answer is {claims[-1][-1]}." in example["solution"]


@pytest.mark.parametrize("field", ["task", "kind", "local", "fields", "prompt", "target", "about"])
def test_a_missing_field_is_named_with_the_file(write_task, field):
    with pytest.raises(ConfigError, match=rf"rivers\.yaml': TaskFile\.{field}: Field required"):
        TaskFile.load(write_task(**{field: None}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "choice"}, "kind 'choice' must have `fields` for choices, gold"),
        ({"fields": {"question": "q"}}, "must have `fields` for answers"),
        ({"promt": "x"}, "no setting 'promt': did you mean 'prompt'"),
        ({"prompt": "{{ question"}, "not a Jinja template"),
        ({"fields": {"answers": "a ["}}, "not a Jinja expression"),
        ({"num_examples": 3}, "num_examples needs an examples_file"),
        ({"score_by": "text"}, "score_by='text' means nothing with kind='short'"),
        ({"text_prompt": "{{ question }}"}, "text_prompt=.* means nothing with kind='short'"),
        ({**CHOICE, "score_by": "word"}, "score_by: Input should be 'letter', 'text' or 'auto'; got 'word'"),
        ({**CHOICE, "text_prompt": "{{ goal }}"}, "score_by='auto' asks with text_prompt, which uses goal: give"),
        ({**CHOICE, "text_prompt": "{{ goal"}, "not a Jinja template"),
    ],
)
def test_what_cannot_be_used_is_refused(write_task, changes, message):
    with pytest.raises(ConfigError, match=message):
        TaskFile.load(write_task(**changes))


def test_without_a_question_of_its_own_a_task_is_scored_by_letter_only(write_task):
    fields = {"goal": "q", "choices": "[a, b]", "gold": "0"}
    changes = {"kind": "choice", "fields": fields, "prompt": "{{ goal }}"}
    with pytest.raises(
        ConfigError, match=r"text_prompt, which uses question: give `fields` for it, .*score_by='letter'"
    ):
        TaskFile.load(write_task(**changes))
    assert TaskFile.load(write_task(**changes, score_by="letter")).score_by == "letter"
    assert TaskFile.load(write_task(**changes, text_prompt="{{ goal }} {{ LETTERS }}")).score_by == "auto"


@pytest.mark.parametrize(("text", "message"), [("a: [", "not valid YAML"), ("- a", "must hold a mapping; got list")])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text, message):
    (tmp_path / "task.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        TaskFile.load(tmp_path / "task.yaml")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"file at '.*none\.yaml'"):
        TaskFile.load(tmp_path / "none.yaml")


def test_a_row_without_what_a_field_needs_is_named(write_task):
    task = TaskFile.load(write_task())
    assert task.read_fields({"q": "Longest?", "a": "Nile"}, "x:1") == {"question": "Longest?", "answers": ["Nile"]}
    with pytest.raises(ConfigError, match=r"rivers\.jsonl:7: field 'question' cannot be read from \['a'\]"):
        task.read_fields({"a": "Nile"}, "rivers.jsonl:7")


def test_a_template_that_uses_an_unknown_field_is_refused(write_task):
    task = TaskFile.load(write_task(prompt="{{ quest }}"))
    with pytest.raises(ConfigError, match="task 'rivers': prompt uses a field that the question does not have"):
        task.write_question({"question": "Longest?"})
