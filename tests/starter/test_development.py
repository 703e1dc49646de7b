"""The rows to choose on are of the kinds of the tasks, and none of theirs."""

from __future__ import annotations

from deepen_llm.starter import TASKS
from deepen_llm.starter.development import NUM_ROWS, development_pairs
from deepen_llm.starter.tasks import heldout_documents, load_task


def test_there_are_as_many_of_each_kind_and_always_the_same():
    pairs = development_pairs()
    assert pairs == development_pairs()
    assert len({prompt for prompt, _ in pairs}) == 4 * NUM_ROWS


def test_no_prompt_occurs_in_a_task_or_in_the_held_out_text():
    reported = {question.prompt for task in TASKS for question in load_task(task)}
    text = "\n\n".join(heldout_documents())
    assert not any(prompt in reported or prompt in text for prompt, _ in development_pairs())


def test_answers_begin_with_a_space_and_end_with_the_line():
    assert all(answer[0] == " " and answer[-1] == "\n" for _, answer in development_pairs())
    assert not any(prompt.endswith(" ") for prompt, _ in development_pairs())
