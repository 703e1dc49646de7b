from __future__ import annotations

import math

import pytest

from deepen_llm.weighting.base import GUESS_BITS, PROMPT_CREDIT, FixedWeighting, GivenWord, Weights


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


def test_a_prompt_is_read_word_by_word_in_proportions():
    words = [GivenWord(3, (-1.0, -2.0)), GivenWord(900, (-1001.0, -1000.0))]
    told, less = Counts().after_prompt(words).told, math.exp(-PROMPT_CREDIT)
    assert told == (pytest.approx((1.0, less)), pytest.approx((less, 1.0)))


def test_how_far_members_are_from_a_guess_letter_by_letter_says_nothing():
    guess = -2 * GUESS_BITS * math.log(2)
    words = [GivenWord(2, (-math.inf, -500.0)), GivenWord(2, (guess + 1, -500.0)), GivenWord(2, (-math.inf, -math.inf))]
    assert Counts().after_prompt(words).told == ((1.0, 1.0), pytest.approx((1.0, math.exp(-PROMPT_CREDIT))), (1.0, 1.0))


def test_an_empty_prompt_says_nothing():
    start = Counts()
    assert start.after_prompt([]) is start


class NotedWeights(Weights):
    """Keeps what it was given."""

    def __init__(self):
        self.given = []

    @property
    def current(self):
        return (0.5, 0.2, 0.3)

    def after_word(self, given):
        self.given.append(given)
        return self


def test_a_member_that_says_nothing_of_a_word_has_the_weighted_mean_of_the_others():
    noted = NotedWeights()
    noted.after_prompt([GivenWord(8, (-1.0, math.nan, -2.0))])
    lower = math.exp(-PROMPT_CREDIT)
    assert noted.given == [pytest.approx([1.0, (0.5 + 0.3 * lower) / 0.8, lower])]


def test_what_only_some_have_said_is_spread_over_all():
    assert GivenWord(3, (-1.0, -2.0)).spread([2, 0], 3).logprobs == pytest.approx((-2.0, math.nan, -1.0), nan_ok=True)
