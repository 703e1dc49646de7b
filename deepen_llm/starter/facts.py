"""Questions and prose about capitals and chemical elements.

Each phrasing is a template with `{}` for the entity. The held-out phrasings are made of words
that the training phrasings use, in an order that never occurs in training.
"""

from __future__ import annotations

import random

from deepen_llm.starter.capitals import CAPITALS
from deepen_llm.starter.elements import ELEMENT_PARTS, Element
from deepen_llm.starter.example import Example

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
HELD_OUT_CAPITAL_QUESTIONS = (
    "Please name the capital city of {}.",
    "Which city is the capital city of {}?",
    "Tell me which city is the capital of {}.",
)
CAPITAL_PROSE = (
    "The capital of {country} is {capital}.",
    "{capital} is the capital of {country}.",
    "The capital city of {country} is {capital}.",
)
HELD_OUT_CAPITAL_PROSE = "The city of {capital} is the capital of {country}."

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
HELD_OUT_SYMBOL_QUESTIONS = (
    "Which chemical symbol does the element {} have?",
    "Please name the chemical symbol of {}.",
)
HELD_OUT_NUMBER_QUESTIONS = (
    "Which atomic number does the element {} have?",
    "Please name the atomic number of {}.",
)
ELEMENT_PROSE = (
    "The symbol of {name} is {symbol}.",
    "The atomic number of {name} is {number}.",
    "The element {name} has the symbol {symbol} and the atomic number {number}.",
)
HELD_OUT_ELEMENT_PROSE = "The chemical symbol of the element {name} is {symbol}."

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


def write_capital(template: str, pair: tuple[str, str]) -> str:
    """A sentence about one capital."""
    return template.format(country=pair[0], capital=pair[1])


def write_element(template: str, element: Element) -> str:
    """A sentence about one element."""
    return template.format(name=element.name, symbol=element.symbol, number=element.number)


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
