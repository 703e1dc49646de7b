"""The held-out tasks are large enough and always the same."""

from __future__ import annotations

import pytest

from deepen_llm.starter import TASKS
from deepen_llm.starter.tasks import heldout_documents, load_task


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


def test_the_held_out_documents_are_several_kilobytes_and_always_the_same():
    assert sum(len(document.encode()) for document in heldout_documents()) > 6000
    assert heldout_documents() == heldout_documents()
