"""The held-out tasks are large enough, always the same, and graded as they should be."""

from __future__ import annotations

import pytest

from deepen_llm.starter import TASKS
from deepen_llm.starter.tasks import heldout_text, is_correct, load_task


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_at_least_100_different_questions(task):
    questions = load_task(task)
    assert len({question.prompt for question in questions}) >= 100
    assert all(question.task == task and question.answer in question.accepted for question in questions)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_the_same_each_time_and_a_limit_takes_its_beginning(task):
    assert load_task(task) == load_task(task)
    assert load_task(task, 7) == load_task(task)[:7]


def test_an_unknown_task_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="capitals, elements, arithmetic, reading; got 'rivers'"):
        load_task("rivers")


def test_no_prompt_ends_with_a_space():
    for task in TASKS:
        assert all(not question.prompt.endswith(" ") for question in load_task(task))


def test_the_first_line_is_graded_and_case_and_full_stop_do_not_matter():
    question = load_task("capitals")[0]
    assert is_correct(question, f" {question.answer}\nmore")
    assert is_correct(question, question.answer.upper() + ".")
    assert not is_correct(question, f"not {question.answer}")
    assert not is_correct(question, "")


def test_of_worked_arithmetic_the_last_number_counts():
    question = load_task("arithmetic")[0]
    assert is_correct(question, f" 1+1=2, so {question.answer}\n99")
    assert not is_correct(question, f" {question.answer}, so 1")
    assert not is_correct(question, " I do not know")


def test_the_held_out_text_is_several_kilobytes_and_always_the_same():
    assert len(heldout_text().encode()) > 6000
    assert heldout_text() == heldout_text()
