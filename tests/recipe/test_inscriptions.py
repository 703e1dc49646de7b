from __future__ import annotations

import random
from itertools import islice

import pytest

from deepen_llm.starter.capitals import CAPITALS
from recipe.inscriptions import GONE, LETTERS, collect_words, make_inscriptions, make_pairs, wear

CAPITAL_WORDS = {word for part in CAPITALS for _, capital in part for word in capital.split()}


def test_no_word_of_a_capital_is_learnt():
    words = collect_words()
    assert len(words) > 800 and not CAPITAL_WORDS.intersection(words)
    assert all(set(word) <= set(LETTERS) for word in words)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_worn_text_has_its_places_and_its_spaces_and_a_letter_at_least(share):
    for seed in range(20):
        worn = wear("Port Louis", random.Random(seed), share)
        assert len(worn) == 10 and worn[4] == " " and worn.strip(GONE + " ")
        assert all(sign in (GONE, before) for sign, before in zip(worn, "Port Louis", strict=True))


def test_the_same_seed_gives_the_same_pairs_and_inscriptions():
    assert list(islice(make_pairs(1), 5)) == list(islice(make_pairs(1), 5)) != list(islice(make_pairs(2), 5))
    assert make_inscriptions(1) == make_inscriptions(1) != make_inscriptions(2)


def test_every_capital_is_asked_for_twice_in_other_words():
    made = make_inscriptions(1)
    assert len(made) == 2 * sum(map(len, CAPITALS)) >= 200
    assert len({one.prompt for one in made}) == len(made)
    assert all(one.prompt.endswith("\nAnswer:") for one in made)
