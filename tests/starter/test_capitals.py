"""The table of the capitals is what it should be."""

from __future__ import annotations

import itertools

from deepen_llm.starter.capitals import CAPITALS


def test_countries_and_capitals_are_unique_and_plain_ascii():
    pairs = list(itertools.chain(*CAPITALS))
    assert len(pairs) >= 150
    assert len({country for country, _ in pairs}) == len(pairs)
    assert len({capital for _, capital in pairs}) == len(pairs)
    assert all((country + capital).isascii() for country, capital in pairs)
