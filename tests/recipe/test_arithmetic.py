"""Held-out operands stay out of training."""

from __future__ import annotations

import random
import re

import pytest

from deepen_llm.starter.arithmetic import is_held_out
from recipe.arithmetic import make_arithmetic_turn


@pytest.mark.parametrize("part", range(3))
def test_training_never_draws_held_out_operands(part):
    rng = random.Random(part)
    for _ in range(2000):
        question, _ = make_arithmetic_turn(rng, part)
        first, second = map(int, re.findall(r"\d+", question))
        assert not is_held_out(first, second)
