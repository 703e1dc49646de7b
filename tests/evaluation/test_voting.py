from __future__ import annotations

from dataclasses import dataclass

import pytest

from deepen_llm.evaluation.questions import Task
from deepen_llm.evaluation.voting import majority_vote, normalize_answer, vote_on_task


@pytest.mark.parametrize(
    ("text", "answer"),
    [(" Lima\nQuestion:", "lima"), ("LIMA.", "lima"), ("\n  New   York ", "new york"), ("", ""), (" \n ", "")],
)
def test_answers_are_compared_by_their_first_line_without_case_spaces_and_full_stop(text, answer):
    assert normalize_answer(text) == answer


@pytest.mark.parametrize(
    ("answers", "settings", "winner"),
    [
        (["x", "y", " Y.\nmore"], {}, 1),
        (["x", "y", "x"], {"main": 2}, 2),  # of those who agree, the main model speaks
        (["x", "y", "y"], {"weights": [0.8, 0.1, 0.1]}, 1),  # votes go before weights
        (["x", "y"], {"weights": [0.4, 0.6]}, 1),
        (["x", "x", "y", "y"], {"weights": [0.1, 0.2, 0.3, 0.4]}, 2),
        (["x", "x", "y", "y"], {"weights": [0.3, 0.3, 0.1 + 0.2, 0.3], "main": 3}, 3),  # equal, but for rounding
        (["x", "y"], {"main": 1}, 1),
        (["x", "y", "z"], {"weights": [0.4, 0.4, 0.2], "main": 2}, 0),  # the main model is not among the equals
        (["", "", "x"], {}, 2),
        (["", ""], {"main": 1}, 1),
    ],
)
def test_most_votes_win_then_weight_then_the_main_model(answers, settings, winner):
    assert majority_vote(answers, **settings) == winner


def test_what_makes_answers_equal_can_be_given():
    answers = ["1+1=2, so 2", "3", "2"]
    assert majority_vote(answers) == 0
    assert majority_vote(answers, main=1) == 1
    assert majority_vote(answers, main=1, normalize=lambda text: text[-1]) == 0


@pytest.mark.parametrize(
    ("answers", "settings", "message"),
    [
        ([], {}, "got 0 answers"),
        (["x", "y"], {"weights": [1.0]}, "2 answers, 1 weights"),
        (["x", "y"], {"main": 2}, "main model 2"),
        (["x", "y"], {"main": -1}, "main model -1"),
    ],
)
def test_a_vote_that_cannot_be_held_is_refused(answers, settings, message):
    with pytest.raises(ValueError, match=message):
        majority_vote(answers, **settings)


@dataclass(frozen=True)
class Ask:
    prompt: str
    answer: str
    stop: tuple[str, ...] = (".",)
    max_new_tokens: int = 32


ASKED = [Ask("the cat", "sat"), Ask("a dog", "ran")]
TASK = Task("stories", ASKED, lambda question, text: text.strip() == question.answer)


@pytest.fixture
def members(make_ensemble):
    stories = [["the cat sat.", "a dog ran."], ["the cat sat.", "a dog is."], ["the cat ran.", "a dog is."]]
    return [make_ensemble(texts, (kind,)) for texts, kind in zip(stories, ("bpe", "unigram", "bpe"), strict=True)]


def test_the_winning_answers_are_graded_in_the_order_of_the_questions(members):
    told = []
    assert vote_on_task(members, TASK, on_answered=told.append) == (True, False)
    assert sum(told) == 6
    assert vote_on_task(members[:2], TASK, weights=[0.6, 0.4]) == (True, True)
    assert vote_on_task(members[:2], TASK, weights=[0.4, 0.6]) == (True, False)
    assert vote_on_task(members[:2], TASK, main=1) == (True, False)


def test_answers_may_be_compared_by_the_question(members):
    seen = []

    def normalize(question, text):
        seen.append(question)
        return "same"

    assert vote_on_task(members, TASK, main=2, normalize=normalize) == (False, False)
    assert set(seen) == set(ASKED)
