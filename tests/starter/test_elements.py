"""The table of the elements is what it should be."""

from __future__ import annotations

import itertools

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
