"""The long answers are what their generator writes, right, long, and new to the starter models and their tasks."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter

import pytest

from deepen_llm.starter import TASKS
from deepen_llm.starter.arithmetic import solve
from deepen_llm.starter.tasks import heldout_documents, load_task
from recipe.corpus import Mixture, make_examples
from tests.data.make_long_answers import PATH, LongAnswer, make_long_answers, write_lines

NUM_EXAMPLES = 3000
TRAINING_SEEDS = (7, 8, 9, 10)
"""One for each stage of a training run."""


@pytest.fixture(scope="module")
def questions():
    return [LongAnswer(**json.loads(line)) for line in PATH.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def training_text():
    texts = []
    for part, seed in itertools.product(range(3), TRAINING_SEEDS):
        examples = make_examples(seed, part, Mixture(), max_sentences=9)
        for example in itertools.islice(examples, NUM_EXAMPLES // len(TRAINING_SEEDS)):
            texts += [example.context, *itertools.chain(*example.turns)]
    return "\n".join(texts)


def asked(question: LongAnswer) -> str:
    """What is asked, without the format around it."""
    return question.prompt.split("Question: ")[-1].removesuffix("\nAnswer:")


def test_the_file_is_what_the_generator_writes():
    assert PATH.read_text(encoding="utf-8") == write_lines(make_long_answers())


def test_there_are_sixty_different_questions_of_three_kinds(questions):
    assert Counter(question.kind for question in questions) == {"arithmetic": 30, "facts": 15, "reading": 15}
    assert len({question.prompt for question in questions}) == 60


def test_neither_prompts_nor_answers_have_spaces_at_their_ends_or_answers_a_second_line(questions):
    for question in questions:
        assert question.prompt == question.prompt.strip() and question.answer == question.answer.strip()
        assert "\n" not in question.answer


def test_every_answer_is_long(questions):
    shortest = {"arithmetic": 20, "facts": 20, "reading": 30}
    assert all(len(question.answer) >= shortest[question.kind] for question in questions)


def test_worked_arithmetic_ends_with_the_result(questions):
    words = {"sum": "+", "difference": "-", "product": "*"}
    for question in questions[:30]:
        named = re.search(r"sum|difference|product", question.prompt)
        operation = words[named[0]] if named else re.search(r" ([-+*]) ", question.prompt)[1]
        first, second = map(int, re.findall(r"\d+", question.prompt))
        assert question.answer.endswith(f", so {solve(operation, first, second)}")


def test_what_is_read_is_answered_by_two_sentences_of_the_text(questions):
    for question in questions[45:]:
        sentences = re.findall(r"[^.]+\.", question.answer)
        assert len(sentences) == 2
        assert all(sentence.strip() in question.prompt for sentence in sentences)


def test_no_question_is_asked_by_a_held_out_task_or_document(questions):
    in_use = "\n".join([*(q.prompt for task in TASKS for q in load_task(task)), *heldout_documents()])
    assert all(asked(question) not in in_use for question in questions)


def test_no_operands_are_those_of_a_held_out_question(questions):
    ours = {tuple(re.findall(r"\d+", q.prompt)) for q in questions if q.kind == "arithmetic"}
    theirs = {tuple(re.findall(r"\d+", q.prompt)) for q in load_task("arithmetic")}
    assert len(ours) == 30
    assert not ours & theirs


def test_no_question_and_no_answer_to_one_with_a_text_occurs_in_training(questions, training_text):
    assert all(asked(question) not in training_text for question in questions)
    assert all(question.answer not in training_text for question in questions if question.kind == "reading")
