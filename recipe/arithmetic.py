"""Questions of arithmetic for training, with worked answers; held-out operands never occur."""

from __future__ import annotations

import random

from deepen_llm.starter.arithmetic import OPERATIONS, is_held_out, write_steps

QUESTIONS = {
    "+": ("What is {} + {}?", "Add {} and {}.", "Work out {} + {}.", "What is the sum of {} and {}?"),
    "-": (
        "What is {} - {}?",
        "What is {} minus {}?",
        "Work out {} - {}.",
        "What is the difference of {} and {}?",
    ),
    "*": (
        "What is {} * {}?",
        "Multiply {} by {}.",
        "Work out {} * {}.",
        "What is the product of {} and {}?",
    ),
}


def make_arithmetic_turn(rng: random.Random, part: int) -> tuple[str, str]:
    """A training question of this part's operation, and its worked answer."""
    operation = OPERATIONS[part]
    while True:
        first = rng.randint(11, 99)
        second = rng.randint(2, 9) if operation == "*" else rng.randint(11, 99)
        if operation == "-" and second >= first:
            first, second = second, first
        if first != second and not is_held_out(first, second):
            break
    question = rng.choice(QUESTIONS[operation]).format(first, second)
    return question, write_steps(operation, first, second)
