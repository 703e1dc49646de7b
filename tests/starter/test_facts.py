"""The tables of facts are what they should be, and the phrasings keep apart."""

from __future__ import annotations

import itertools
import random

from deepen_llm.starter import facts
from deepen_llm.starter.capitals import CAPITALS
from deepen_llm.starter.elements import ELEMENT_PARTS, ELEMENTS


def test_there_are_118_elements_with_unique_names_and_symbols():
    assert len(ELEMENTS) == 118
    assert len({element.name for element in ELEMENTS}) == 118
    assert len({element.symbol for element in ELEMENTS}) == 118
    assert [element.number for element in ELEMENTS] == list(range(1, 119))


def test_well_known_elements_have_their_numbers():
    by_symbol = {element.symbol: element for element in ELEMENTS}
    known = {"H": 1, "C": 6, "O": 8, "Fe": 26, "Ag": 47, "Xe": 54, "W": 74, "Au": 79, "Pb": 82, "U": 92, "Og": 118}
    assert {symbol: by_symbol[symbol].number for symbol in known} == known


def test_the_parts_of_the_elements_hold_each_once():
    assert list(itertools.chain(*ELEMENT_PARTS)) == list(ELEMENTS)


def test_countries_and_capitals_are_unique_and_plain_ascii():
    pairs = list(itertools.chain(*CAPITALS))
    assert len(pairs) >= 150
    assert len({country for country, _ in pairs}) == len(pairs)
    assert len({capital for _, capital in pairs}) == len(pairs)
    assert all((country + capital).isascii() for country, capital in pairs)


def test_held_out_phrasings_are_not_training_phrasings():
    trained = {*facts.CAPITAL_QUESTIONS, *facts.SYMBOL_QUESTIONS, *facts.NUMBER_QUESTIONS}
    held_out = {
        *facts.HELD_OUT_CAPITAL_QUESTIONS,
        *facts.HELD_OUT_SYMBOL_QUESTIONS,
        *facts.HELD_OUT_NUMBER_QUESTIONS,
    }
    assert not trained & held_out


def test_a_capital_question_is_answered_from_its_own_part():
    rng = random.Random(0)
    for part, pairs in enumerate(CAPITALS):
        names = set(itertools.chain(*pairs))
        assert all(facts.make_capital_turn(rng, part)[1] in names for _ in range(50))
