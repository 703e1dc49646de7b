"""Questions and prose about capitals and chemical elements, for training."""

from __future__ import annotations

import random

from deepen_llm.starter.capitals import CAPITALS, write_capital
from deepen_llm.starter.elements import ELEMENT_PARTS, write_element
from deepen_llm.starter.prompts import Example

CAPITAL_QUESTIONS = (
    "What is the capital of {}?",
    "Which city is the capital of {}?",
    "What is the capital city of {}?",
    "Name the capital of {}.",
    "Tell me the capital of {}.",
    "What city is the capital of {}?",
    "The capital of {} is which city?",
    "Please give the capital of {}.",
    "Do you know the capital of {}?",
    "Which city is the capital of the country {}?",
)
COUNTRY_QUESTIONS = (
    "{} is the capital of which country?",
    "Which country has {} as its capital?",
    "Name the country whose capital is {}.",
)
CAPITAL_PROSE = (
    "The capital of {country} is {capital}.",
    "{capital} is the capital of {country}.",
    "The capital city of {country} is {capital}.",
)
SYMBOL_QUESTIONS = (
    "What is the symbol of {}?",
    "What is the chemical symbol of {}?",
    "Which symbol does {} have?",
    "Name the symbol of {}.",
    "Tell me the chemical symbol for {}.",
    "What is the symbol for the element {}?",
    "Which chemical symbol stands for {}?",
)
NUMBER_QUESTIONS = (
    "What is the atomic number of {}?",
    "Which atomic number does {} have?",
    "Name the atomic number of {}.",
    "Tell me the atomic number of {}.",
    "What is the atomic number of the element {}?",
)
ELEMENT_PROSE = (
    "The symbol of {name} is {symbol}.",
    "The atomic number of {name} is {number}.",
    "The element {name} has the symbol {symbol} and the atomic number {number}.",
)

NUM_PARTS = len(CAPITALS)


def make_capital_turn(rng: random.Random, part: int) -> tuple[str, str]:
    """A question about a capital of this part, and its answer."""
    country, capital = rng.choice(CAPITALS[part])
    if rng.random() < 0.2:
        return rng.choice(COUNTRY_QUESTIONS).format(capital), country
    return rng.choice(CAPITAL_QUESTIONS).format(country), capital


def make_element_turn(rng: random.Random, part: int) -> tuple[str, str]:
    """A question about a chemical element of this part, and its answer."""
    element = rng.choice(ELEMENT_PARTS[part])
    if rng.random() < 0.5:
        return rng.choice(SYMBOL_QUESTIONS).format(element.name), element.symbol
    return rng.choice(NUMBER_QUESTIONS).format(element.name), str(element.number)


def make_fact_prose(rng: random.Random, part: int) -> Example:
    """Two to four sentences about facts of this part."""
    sentences = []
    for _ in range(rng.randint(2, 4)):
        if rng.random() < 0.5:
            sentences.append(write_capital(rng.choice(CAPITAL_PROSE), rng.choice(CAPITALS[part])))
        else:
            element = rng.choice(ELEMENT_PARTS[part])
            sentences.append(write_element(rng.choice(ELEMENT_PROSE), element))
    return Example("prose", " ".join(sentences))
