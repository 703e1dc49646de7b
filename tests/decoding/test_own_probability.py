"""What a member gives a text by its own tokens, held against a sum from scratch over tables of what it says."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
import torch

from deepen_llm.decoding.own_probability import OwnProbability

TOKENS = ("a", "b", " ", "ab", "ba", "aba", " a", " ab", "bb")
EXACT = 1e-9


class Table:
    """Gives the next token after every tokens by chance; some it rules out where it is told to."""

    def __init__(self, seed, rules_out=False):
        self.seed, self.rules_out = seed, rules_out

    def next(self, ids):
        rng = random.Random(f"{self.seed} {list(ids)}")
        masses = [0.0 if self.rules_out and rng.random() < 0.2 else rng.uniform(0.01, 1) ** 3 for _ in TOKENS]
        return [mass / sum(masses) for mass in masses]

    def log_of(self, ids, place):
        return _log(self.next(ids[:place])[ids[place]])

    def go_on(self, ids, text):
        """The probability that what follows the tokens begins with the text, by enumeration."""
        if not text:
            return 1.0
        found = 0.0
        for token_id, (token, prob) in enumerate(zip(TOKENS, self.next(ids), strict=True)):
            if token.startswith(text):
                found += prob
            elif text.startswith(token):
                found += prob * self.go_on([*ids, token_id], text[len(token) :])
        return found


def _log(prob):
    return math.log(prob) if prob else -math.inf


def spell(ids):
    return "".join(TOKENS[token_id] for token_id in ids)


def cut(text, rng):
    """Some tokens that spell a text."""
    ids = []
    while text:
        fitting = [token_id for token_id, token in enumerate(TOKENS) if text.startswith(token)]
        ids.append(rng.choice(fitting))
        text = text[len(TOKENS[ids[-1]]) :]
    return ids


class Fed:
    """A row of a cache that is fed as a `Track` feeds it, and what is known of it."""

    def __init__(self, table, rng):
        self.table, self.rng = table, rng
        self.own = OwnProbability()
        self.ids, self.num_fed = [], 0
        self.reached = None
        """The log-probability of the text as it was reached last."""

    def recut(self, ids):
        """Other tokens for a longer text: the first ones stay."""
        kept = next(
            (at for at, (old, new) in enumerate(zip(self.ids, ids, strict=False)) if old != new),
            min(len(self.ids), len(ids)),
        )
        if kept == len(ids) < self.num_fed:
            kept -= 1
        self.own.keep(kept)
        if 1 < kept < self.num_fed:
            kept -= 1
        self.num_fed, self.ids = min(self.num_fed, kept), ids

    def feed(self, up_to, num_measured):
        """Feed what waits, up to a token, and have the last ones measured."""
        ids = self.ids[self.num_fed : up_to]
        if ids:
            places = range(up_to - min(num_measured, len(ids) - 1), up_to)
            self.own.feed(self.num_fed, ids, [self.table.log_of(self.ids, place) for place in places])
            self.num_fed = up_to

    def reach(self, num_before):
        """What was found to be added, and what was."""
        pending = spell(self.ids)[len(spell(self.ids[:num_before])) :]
        mass = self.table.go_on(self.ids[:num_before], pending)
        before = self.reached
        self.reached = sum(self.table.log_of(self.ids, at) for at in range(num_before)) + _log(mass)
        found = self.own.reach(num_before, mass, torch.tensor(self.table.next(self.ids), dtype=torch.float64))
        if before is None or before == -math.inf:
            return found, math.nan  # there is nothing to compare with
        return found, math.exp(min(self.reached - before, 0.0))


def grow(text, rng):
    return text + "".join(rng.choices("ab ", k=rng.randint(0, 3)))


def begin(seed, length=8, rules_out=False):
    """A prompt that is fed and measured but for its first token, as far as it can be."""
    rng = random.Random(seed)
    fed = Fed(Table(seed, rules_out), rng)
    fed.recut(cut("".join(rng.choices("ab ", k=length)), rng))
    fed.feed(len(fed.ids), len(fed.ids))
    return fed, rng


@pytest.mark.parametrize("seed", range(40))
def test_what_was_added_is_known_where_all_was_measured_however_the_text_is_cut_anew(seed):
    fed, rng = begin(seed)
    fed.reach(rng.randint(1, len(fed.ids)))
    for _ in range(6):
        kept = rng.randint(min(2, len(fed.ids)), len(fed.ids))
        text = grow(spell(fed.ids), rng)
        fed.recut([*fed.ids[:kept], *cut(text[len(spell(fed.ids[:kept])) :], rng)])
        fed.feed(len(fed.ids), len(fed.ids))
        found, expected = fed.reach(rng.randint(max(len(fed.ids) - 3, 1), len(fed.ids)))
        assert found == pytest.approx(expected, abs=EXACT, rel=EXACT)


@pytest.mark.parametrize("rules_out", [False, True])
def test_where_something_is_not_known_it_is_said_and_no_wrong_number(rules_out):
    num_known = num_unknown = 0
    for seed in range(150):
        fed, rng = begin(seed, 1 + seed % 8, rules_out)
        fed.reach(rng.randint(0, len(fed.ids)))
        for _ in range(8):
            kept = rng.randint(0, len(fed.ids))
            text = grow(spell(fed.ids), rng)
            fed.recut([*fed.ids[:kept], *cut(text[len(spell(fed.ids[:kept])) :], rng)])
            while fed.num_fed < len(fed.ids):
                fed.feed(rng.randint(fed.num_fed + 1, len(fed.ids)), rng.choice([0, 1, 2, 9]))
            found, expected = fed.reach(rng.randint(0, len(fed.ids)))
            if math.isnan(found):
                num_unknown += 1
            elif math.isnan(expected):
                assert 0 <= found <= 1
            else:
                num_known += 1
                assert found == pytest.approx(expected, abs=EXACT, rel=EXACT)
    assert min(num_known, num_unknown) > 100


def test_one_token_after_another_is_what_each_was_given_before():
    fed, rng = begin(3)
    fed.reach(len(fed.ids))
    for _ in range(5):
        fed.recut([*fed.ids, rng.randrange(len(TOKENS))])
        fed.feed(len(fed.ids), 0)
        found, _ = fed.reach(len(fed.ids))
        assert found == pytest.approx(fed.table.next(fed.ids[:-1])[fed.ids[-1]], abs=EXACT)


def test_of_a_text_that_was_not_reached_before_nothing_is_known():
    fed, _ = begin(1)
    assert math.isnan(fed.reach(len(fed.ids))[0])


def test_of_several_tokens_that_were_not_measured_nothing_is_known_until_they_lie_behind():
    fed, _ = begin(2)
    fed.reach(len(fed.ids))
    fed.recut([*fed.ids, 0, 1])
    fed.feed(len(fed.ids), 0)
    assert math.isnan(fed.reach(len(fed.ids))[0])
    fed.recut([*fed.ids, 2])
    fed.feed(len(fed.ids), 0)
    found, expected = fed.reach(len(fed.ids))
    assert found == pytest.approx(expected, abs=EXACT)


def test_bytes_that_cannot_be_say_nothing_of_those_after_them():
    own, probs = OwnProbability(), torch.full((9,), 1 / 9)
    own.feed(0, [0, 1], [math.log(0.5)])
    own.reach(2, 1.0, probs)
    assert own.reach(2, 0.0, probs) == 0.0
    own.feed(2, [2], [])
    assert math.isnan(own.reach(3, 1.0, probs))


def test_the_last_tokens_each_count_for_the_one_in_which_they_begin():
    rng = random.Random(4)
    for _ in range(200):
        text = "".join(rng.choices("ab ", k=10))
        ids, said = cut(text, rng), cut(text, rng)
        logprobs = [math.log(rng.uniform(0.1, 1)) for _ in ids]
        own = OwnProbability()
        own.feed(0, ids, logprobs)
        num_said = rng.randint(1, len(said))
        sizes = [len(TOKENS[token_id]) for token_id in said]
        found = own.give_each([len(TOKENS[token_id]) for token_id in ids], sizes[-num_said:])
        begins = [len(spell(ids[:at])) for at in range(len(ids))]
        edges = [len(spell(said[:at])) for at in range(len(said) - num_said, len(said) + 1)]
        expected = [
            math.exp(sum(logprob for begin, logprob in zip(begins, logprobs, strict=True) if left <= begin < right))
            for left, right in pairwise(edges)
        ]
        assert found == pytest.approx(expected, abs=EXACT)
        assert own.last(2) == logprobs[-2:]


def test_what_is_not_known_of_a_token_is_not_known_of_what_it_counts_for():
    own = OwnProbability()
    own.feed(0, [0, 1, 2, 0], [math.log(0.5), math.log(0.25)])
    first, second, third, last = own.give_each([1] * 4, [1] * 4)
    assert math.isnan(first) and math.isnan(second)
    assert (third, last) == (pytest.approx(0.5), pytest.approx(0.25))
