"""The training text is deterministic and holds nothing that evaluation asks."""

from __future__ import annotations

import itertools
import re

import pytest

from deepen_llm.starter import TASKS
from deepen_llm.starter.capitals import CAPITALS
from deepen_llm.starter.names import HELD_OUT_PEOPLE, HELD_OUT_PLACES
from deepen_llm.starter.prompts import FORMATS, RETRIEVAL, write_plain
from deepen_llm.starter.tasks import heldout_documents, load_task
from recipe.corpus import Mixture, make_examples

NUM_EXAMPLES = 3000


def training_examples(part: int, seed: int = 7):
    return list(itertools.islice(make_examples(seed, part, Mixture(), max_sentences=6), NUM_EXAMPLES))


@pytest.fixture(scope="module")
def training_text():
    texts = []
    for part in range(3):
        for i, example in enumerate(training_examples(part)):
            form = [*FORMATS, RETRIEVAL][i % (len(FORMATS) + 1)]
            texts.append("".join(s.text for s in write_plain(example, form)) or example.context)
    return "\n".join(texts)


def test_the_same_seed_gives_the_same_text():
    assert training_examples(1)[:300] == training_examples(1)[:300]
    assert training_examples(1)[:300] != training_examples(1, seed=8)[:300]


def test_a_member_sees_mostly_its_own_capitals_and_a_few_others():
    for part in range(3):
        own = {name for pair in CAPITALS[part] for name in pair}
        answers = [a for e in training_examples(part) if e.kind == "capitals" for _, a in e.turns]
        share = sum(answer in own for answer in answers) / len(answers)
        assert 0.9 < share < 1.0


def test_all_members_see_every_kind_of_text():
    for part in range(3):
        kinds = {example.kind for example in training_examples(part)}
        assert kinds == {"capitals", "elements", "arithmetic", "reading", "chat", "copy", "prose"}


@pytest.mark.parametrize("task", TASKS)
def test_no_held_out_prompt_or_question_occurs_in_training(task, training_text):
    for question in load_task(task):
        assert question.prompt not in training_text
        asked = next(
            line.split(": ", 1)[1] for line in question.prompt.split("\n") if line.startswith(("Question: ", "Query: "))
        )
        assert asked not in training_text


def test_no_held_out_name_or_document_occurs_in_training(training_text):
    words = set(re.findall(r"\w+", training_text))
    assert not words & {*HELD_OUT_PEOPLE, *HELD_OUT_PLACES}
    for document in heldout_documents():
        lines = [line for line in document.split("\n") if len(line) > 40 and line not in RETRIEVAL.context]
        assert not [line for line in lines if line in training_text]
