"""Worn inscriptions: words of which letters are gone, for a small specialist that reads what they were.

No word of a capital's name is among those that it learns to read.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice

from deepen_llm.starter.capitals import CAPITALS, HELD_OUT_CAPITAL_QUESTIONS
from deepen_llm.starter.prompts import QUESTION_ANSWER, Example, write_plain
from recipe.corpus import Mixture, make_examples

GONE = "_"
"""Stands for a letter that is worn away."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'-"
WEAR = 0.25
"""The share of the letters that are gone."""
NUM_EXAMPLES = 4000


@dataclass(frozen=True)
class Inscription:
    """A question, a worn writing of its answer, and the answer."""

    prompt: str
    worn: str
    answer: str


@cache
def collect_words() -> list[str]:
    """The words of the starter members' own training text, in order, without those of the capitals."""
    known: set[str] = set()
    for part in range(len(CAPITALS)):
        for example in islice(make_examples(1, part, Mixture()), NUM_EXAMPLES):
            text = " ".join([example.context, *(word for turn in example.turns for word in turn)])
            known |= set(re.findall(r"[A-Za-z]{3,}", text))
    return sorted(known - {word for part in CAPITALS for _, capital in part for word in capital.split()})


def wear(text: str, rng: random.Random, share: float = WEAR) -> str:
    """A text of which letters are gone; one of them at least stays."""
    while True:
        worn = "".join(GONE if sign != " " and rng.random() < share else sign for sign in text)
        if worn.strip(GONE + " "):
            return worn


def make_pairs(seed: int) -> Iterator[tuple[str, str]]:
    """An endless stream of worn writings and what they were: one to three words, most of them capitalised."""
    rng, words = random.Random(seed), collect_words()
    while True:
        text = " ".join(rng.choices(words, k=rng.choices((1, 2, 3), (8, 2, 1))[0]))
        text = text.title() if rng.random() < 0.8 else text
        yield wear(text, rng, rng.uniform(0.05, 0.5)), text


def make_inscriptions(seed: int, num_each: int = 2) -> list[Inscription]:
    """Every capital, so many times: each time asked in other words and worn anew."""
    rng = random.Random(seed)
    made = []
    for number in range(num_each):
        form = HELD_OUT_CAPITAL_QUESTIONS[number % len(HELD_OUT_CAPITAL_QUESTIONS)]
        for country, capital in (pair for part in CAPITALS for pair in part):
            prompt = write_plain(Example("capitals", "", ((form.format(country), capital),)), QUESTION_ANSWER)[0].text
            made.append(Inscription(prompt, wear(capital, rng), capital))
    return made
