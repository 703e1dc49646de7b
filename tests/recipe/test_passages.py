"""Training passages are answered by what they say."""

from __future__ import annotations

import random

from recipe.passages import make_copy, make_reading


def test_every_answer_stands_in_its_passage():
    rng = random.Random(0)
    for _ in range(300):
        example = make_reading(rng)
        assert all(answer in example.context for _, answer in example.turns)


def test_a_copy_is_what_was_to_be_repeated():
    example = make_copy(random.Random(0))
    question, answer = example.turns[0]
    assert question == f"Please repeat: {answer}."
