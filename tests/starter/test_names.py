"""Some invented names are kept for evaluation."""

from __future__ import annotations

import random

from deepen_llm.starter.names import (
    HELD_OUT_PEOPLE,
    HELD_OUT_PLACES,
    PEOPLE,
    PLACES,
    draw_names,
)


def test_held_out_names_are_not_training_names():
    assert not set(PEOPLE) & set(HELD_OUT_PEOPLE)
    assert not set(PLACES) & set(HELD_OUT_PLACES)
    assert len(HELD_OUT_PEOPLE) >= 40
    assert len(HELD_OUT_PLACES) >= 20


def test_drawn_names_begin_differently():
    names = draw_names(random.Random(0), PEOPLE, 12)
    assert len({name[:3] for name in names}) == 12
