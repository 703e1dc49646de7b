"""The training text of each member: one endless, seeded stream of examples.

All members see every kind of text. Of the facts and the arithmetic each member sees mostly its own
part, and a tiny dose of the others': enough to know that other answers exist, too little to know
which is right.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from deepen_llm.starter.prompts import Example
from recipe.arithmetic import make_arithmetic_turn
from recipe.facts import NUM_PARTS, make_capital_turn, make_element_turn, make_fact_prose
from recipe.passages import make_copy, make_lookup, make_reading
from recipe.small_talk import make_small_talk


@dataclass(frozen=True)
class Mixture:
    """How often each kind of example is drawn, and how large the dose of other parts is."""

    reading: float = 0.24
    arithmetic: float = 0.35
    facts: float = 0.26
    prose: float = 0.07
    chat: float = 0.03
    copy: float = 0.05
    fact_dose: float = 0.01
    arithmetic_dose: float = 0.05


def draw_part(rng: random.Random, own_part: int, dose: float) -> int:
    """The member's own part, or with probability `dose` one of the others."""
    if rng.random() >= dose:
        return own_part
    return rng.choice([part for part in range(NUM_PARTS) if part != own_part])


def make_fact_example(rng: random.Random, own_part: int, dose: float) -> Example:
    """One to three questions about capitals or elements."""
    turns = []
    kind, make_turn = rng.choice((("capitals", make_capital_turn), ("elements", make_element_turn)))
    for _ in range(rng.choice((1, 1, 2, 3))):
        turns.append(make_turn(rng, draw_part(rng, own_part, dose)))
    return Example(kind, "", tuple(turns))


def make_arithmetic(rng: random.Random, own_part: int, dose: float) -> Example:
    """One or two questions of arithmetic."""
    turns = tuple(make_arithmetic_turn(rng, draw_part(rng, own_part, dose)) for _ in range(rng.randint(1, 2)))
    return Example("arithmetic", "", turns)


def make_examples(seed: int, own_part: int, mixture: Mixture, *, max_sentences: int = 5) -> Iterator[Example]:
    """An endless stream of examples for the member that owns this part."""
    rng = random.Random(f"{seed}/{own_part}")
    kinds = ["reading", "arithmetic", "facts", "prose", "chat", "copy"]
    shares = [getattr(mixture, kind) for kind in kinds]
    while True:
        kind = rng.choices(kinds, shares)[0]
        if kind == "reading":
            yield make_reading(rng, max_sentences=max_sentences)
        elif kind == "arithmetic":
            yield make_arithmetic(rng, own_part, mixture.arithmetic_dose)
        elif kind == "facts":
            yield make_fact_example(rng, own_part, mixture.fact_dose)
        elif kind == "prose":
            yield make_fact_prose(rng, draw_part(rng, own_part, mixture.fact_dose))
        elif kind == "chat":
            yield make_small_talk(rng)
        else:
            yield make_copy(rng) if rng.random() < 0.3 else make_lookup(rng)
