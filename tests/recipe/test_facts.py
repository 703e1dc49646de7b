"""Training asks in other words than the tasks, and answers from the right part."""

from __future__ import annotations

import itertools
import random

from deepen_llm.starter import capitals, elements
from recipe import facts


def test_held_out_phrasings_are_not_training_phrasings():
    trained = {*facts.CAPITAL_QUESTIONS, *facts.SYMBOL_QUESTIONS, *facts.NUMBER_QUESTIONS}
    held_out = {
        *capitals.HELD_OUT_CAPITAL_QUESTIONS,
        *elements.HELD_OUT_SYMBOL_QUESTIONS,
        *elements.HELD_OUT_NUMBER_QUESTIONS,
    }
    assert not trained & held_out


def test_a_capital_question_is_answered_from_its_own_part():
    rng = random.Random(0)
    for part, pairs in enumerate(capitals.CAPITALS):
        names = set(itertools.chain(*pairs))
        assert all(facts.make_capital_turn(rng, part)[1] in names for _ in range(50))
