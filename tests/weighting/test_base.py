from __future__ import annotations

import math

import pytest

from deepen_llm.weighting.base import PROMPT_CREDIT, FixedWeighting, GivenWord, Weights


def test_fixed_weights_are_the_same_for_every_request_whatever_they_are_told():
    weighting = FixedWeighting([0.25, 0.75])
    assert not weighting.reads_prompt
    weights = weighting.begin()
    told = weights.after_word([0.1, 0.9]).after_prompt([GivenWord(4, (-math.inf, -0.5))])
    assert told.current == weights.current == weighting.begin().current == (0.25, 0.75)


class Counts(Weights):
    """Notes what it is told."""

    def __init__(self, told=()):
        self.told = told

    @property
    def current(self):
        return (0.5, 0.5)

    def after_word(self, given):
        return Counts((*self.told, tuple(given)))


def test_a_prompt_is_read_word_by_word_in_proportions_that_do_not_vanish():
    words = [GivenWord(3, (-1.0, -2.0)), GivenWord(9, (-5000.0, -4999.0)), GivenWord(1, (-math.inf, -800.0))]
    told, less = Counts().after_prompt(words).told, math.exp(-PROMPT_CREDIT)
    assert told == (pytest.approx((1.0, less)), pytest.approx((less, 1.0)), (0.0, 1.0))


def test_a_word_that_everyone_rules_out_is_passed_over():
    assert Counts().after_prompt([GivenWord(3, (-math.inf, -math.inf))]).told == ()
    start = Counts()
    assert start.after_prompt([]) is start
