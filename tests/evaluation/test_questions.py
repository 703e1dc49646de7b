from __future__ import annotations

from dataclasses import dataclass

import pytest

from deepen_llm.errors import PromptError
from deepen_llm.evaluation import Task, answer_task

STORIES = ["the cat sat on the mat.", "a dog ran home. then", "one two three four"]


@dataclass(frozen=True)
class Ask:
    prompt: str
    answer: str
    stop: tuple[str, ...] = (".",)
    max_new_tokens: int = 64


def is_correct(question, text):
    return text == question.answer


ASKED = [
    Ask("the cat sat on", " the mat"),
    Ask("a dog ran", " home"),
    Ask("a dog ran", " away"),
    Ask("one two", " three four", stop=()),
    Ask("the cat", " sat on the mat"),
]


@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_answers_are_graded_in_order_whatever_the_batches_are(make_ensemble, batch_size):
    ensemble = make_ensemble(STORIES, max_batch_size=batch_size)
    told = []
    grades = answer_task(ensemble, Task("stories", ASKED, is_correct), on_answered=told.append)
    assert grades == (True, True, False, True, True)
    assert sum(told) == len(ASKED)
    assert max(told) <= batch_size


def test_questions_run_side_by_side(make_ensemble):
    ensemble = make_ensemble(STORIES)
    answer_task(ensemble, Task("stories", ASKED[:3], is_correct))
    assert len(ensemble.members[0].passes[0]) > 1


def test_a_question_that_cannot_be_asked_is_an_error(make_ensemble):
    with pytest.raises(PromptError):
        answer_task(make_ensemble(STORIES), Task("bad", [Ask("\ud800", "")], is_correct))


def test_no_questions_no_grades(make_ensemble):
    assert answer_task(make_ensemble(STORIES), Task("none", [], is_correct)) == ()
