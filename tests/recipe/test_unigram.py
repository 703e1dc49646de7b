"""Unigram pieces are learnt from word counts."""

from __future__ import annotations

import math
from collections import Counter

from recipe.unigram import cut_word, learn_pieces


def test_a_word_is_cut_into_its_likeliest_pieces():
    scores = {"a": -1.0, "b": -1.0, "ab": -1.5, "c": -1.0}
    assert cut_word("abc", scores) == ["ab", "c"]
    assert cut_word("ba", scores) == ["b", "a"]


def test_frequent_words_become_pieces_and_every_character_is_kept():
    words = Counter({"▁the": 100, "▁cat": 50, "▁that": 40, "q": 1})
    pieces = dict(learn_pieces(words, "xyz", 20))
    assert {"▁the", "▁cat", "▁that"} <= set(pieces)
    assert {"q", "x", "y", "z"} <= set(pieces)


def test_the_shares_of_the_pieces_sum_to_at_most_one_by_rank():
    pieces = learn_pieces(Counter({"aab": 3, "ab": 5}), "ab", 5)
    scores = [score for _, score in pieces]
    assert scores == sorted(scores, reverse=True)
    assert math.isclose(sum(map(math.exp, scores)), 1.0, rel_tol=1e-9)
