"""Every written step of the worked arithmetic is true, and a fifth of the operands is held out."""

from __future__ import annotations

import re

import pytest

from deepen_llm.starter.arithmetic import (
    OPERATIONS,
    is_held_out,
    operand_pairs,
    solve,
    write_steps,
)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_step_of_every_pair_is_true(operation):
    for first, second in operand_pairs(operation):
        steps = write_steps(operation, first, second)
        for left, right in re.findall(r"([\d+*-]+)=(\d+)", steps):
            assert eval(left) == int(right), steps
        assert steps.endswith(f", so {solve(operation, first, second)}")


def test_results_are_those_of_the_operations():
    assert (solve("+", 47, 28), solve("-", 47, 28), solve("*", 47, 6)) == (75, 19, 282)


def test_worked_steps_read_as_written():
    assert write_steps("+", 47, 28) == "7+8=15, 4+2+1=7, so 75"
    assert write_steps("-", 47, 28) == "17-8=9, 4-2-1=1, so 19"
    assert write_steps("*", 47, 6) == "7*6=42, 4*6=24, 24+4=28, so 282"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_fifth_of_the_operands_is_held_out(operation):
    pairs = list(operand_pairs(operation))
    share = sum(is_held_out(*pair) for pair in pairs) / len(pairs)
    assert 0.15 < share < 0.25
