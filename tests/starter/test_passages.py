"""Passages state no fact twice, and those for evaluation use held-out names."""

from __future__ import annotations

import random

from deepen_llm.starter.names import HELD_OUT_PEOPLE, HELD_OUT_PLACES
from deepen_llm.starter.passages import Cast, make_statements, write_passage
from deepen_llm.starter.relations import RELATIONS


def test_no_two_statements_have_the_same_relation_and_subject():
    for seed in range(50):
        statements = make_statements(Cast.draw(random.Random(seed), held_out=False), 5)
        keys = {(statement.relation.questions, statement.subject) for statement in statements}
        assert len(keys) == len(statements)


def test_evaluation_passages_use_held_out_names_only():
    rng = random.Random(0)
    for _ in range(50):
        cast = Cast.draw(rng, held_out=True)
        assert set(cast.people) <= set(HELD_OUT_PEOPLE)
        assert set(cast.places) <= set(HELD_OUT_PLACES)


def test_several_documents_are_parted_by_empty_lines():
    rng = random.Random(0)
    statements = make_statements(Cast.draw(rng, held_out=False), 4)
    assert write_passage(rng, statements, num_documents=3).count("\n\n") == 2


def test_held_out_questions_are_not_training_questions():
    for relation in RELATIONS:
        assert not set(relation.questions) & set(relation.held_out)
