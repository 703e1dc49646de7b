"""Weights word by word, held against loops over rows, members and tokens."""

from __future__ import annotations

import itertools
import random
from typing import NamedTuple

import pytest
import torch

from deepen_llm.fusion.base import Distribution, Distributions
from deepen_llm.fusion.text import TextFusion
from deepen_llm.fusion.words import Factors, WordWeigher
from deepen_llm.vocabulary.words import Place, goes_on
from tests.rounding import rounding

MAIN = 1
SNOW = "☃".encode()
TOKENS = (
    (b"a", b" ", b"b a", None, SNOW[:1], SNOW[1:], b"."),
    (None, b"ab", b" a", b"'", SNOW[:2], SNOW[2:], b"b", b"\n", b"c"),
    (b" b", b"a", None, SNOW[1:], b"!", b"b", b"a."),
)
"""Of three members, the second the main model; None ends the text."""
PLACES = (Place.IN_WORD, Place.BETWEEN, Place.IN_CHARACTER, Place.IN_WORD)
TOLERANCE = 2 * rounding(num_terms=20, num_steps=4)


class Described(NamedTuple):
    tokens: tuple[bytes | None, ...]


WEIGHER = WordWeigher([Described(tokens) for tokens in TOKENS], MAIN)


def draw(generator, *shape):
    return torch.randn(*shape, generator=generator).mul(2).softmax(dim=-1)


def make_given(seed=0, empty_rows=((), (2,)), batch=4):
    """The first member gives part of its mass in tokens of its own, the last all of it by projection."""
    generator = torch.Generator().manual_seed(seed)
    probs = draw(generator, batch, len(TOKENS[MAIN]))
    both = draw(generator, batch, len(TOKENS[MAIN]) + len(TOKENS[0]))
    others = [
        Distribution(0, both[:, : len(TOKENS[MAIN])], both[:, len(TOKENS[MAIN]) :], empty_rows[0]),
        Distribution(2, draw(generator, batch, len(TOKENS[MAIN])), None, empty_rows[1]),
    ]
    return Distributions(MAIN, probs.log(), probs, others, 3)


def make_factors(given, places, seed=0, weights=(0.2, 0.5, 0.3)):
    """Factors as a mixture over words has them: what all members come to sums to 1, row by row."""
    rng = random.Random(seed)
    found = []
    for place, shares in zip(places, share_by_loop(given, places), strict=True):
        if place == Place.BETWEEN:
            found.append(Factors(weights, weights))
            continue
        parts = [weight * rng.uniform(0.1, 1) for weight in weights]
        goes_on_ = [part / sum(parts) for part in parts]
        ends = sum(g * e for g, e in zip(goes_on_, shares, strict=True))
        begins = [ends * weight / e for weight, e in zip(weights, shares, strict=True)]
        found.append(Factors(tuple(begins), tuple(goes_on_)))
    return found


def begins_word(token, place):
    return token is None or not goes_on(token, place)


def parts_of(given, row):
    """By member, what it gives in one row: (vocabulary, id, probability) of every token."""
    found = {member: [(MAIN, at, p) for at, p in enumerate(given.probs[row].tolist())] for member in range(3)}
    for other in given.others:
        if row in other.empty_rows:
            continue
        own = [] if other.own is None else other.own[row].tolist()
        found[other.member] = [(MAIN, at, p) for at, p in enumerate(other.projected[row].tolist())]
        found[other.member] += [(other.member, at, p) for at, p in enumerate(own)]
    return found


def share_by_loop(given, places):
    return [
        [
            sum(p for of, at, p in parts if begins_word(TOKENS[of][at], place))
            for _, parts in sorted(parts_of(given, row).items())
        ]
        for row, place in enumerate(places)
    ]


def weigh_by_loop(given, places, factors, row):
    """What every member adds, by (member, vocabulary, id): those of which nothing can be said add to the main model."""
    empty = {other.member for other in given.others if row in other.empty_rows}
    found = {}
    for member, parts in parts_of(given, row).items():
        for of, at, p in parts:
            begins = begins_word(TOKENS[of][at], places[row])
            factor = factors[row].begins[member] if begins else factors[row].goes_on[member]
            key = (MAIN if member in empty else member, of, at)
            found[key] = found.get(key, 0.0) + factor * p
    return found


def added_by(step, row):
    """The same of a step: a member's weight by what it gives."""
    found = {(MAIN, MAIN, at): float(step.weights[row, MAIN]) * p for at, p in enumerate(step.probs[row].tolist())}
    for other in step.others:
        weight = float(step.weights[row, other.member])
        for of, part in ((MAIN, other.projected), (other.member, other.own)):
            if part is not None:
                found |= {(other.member, of, at): weight * p for at, p in enumerate(part[row].tolist())}
    return found


def same(found, expected):
    for key in found.keys() | expected.keys():
        assert found.get(key, 0.0) == pytest.approx(expected.get(key, 0.0), abs=TOLERANCE)


def pick(given, rows):
    """Some rows of a batch as a batch of their own."""

    def of(part):
        return None if part is None else part[rows]

    others = [
        Distribution(o.member, of(o.projected), of(o.own), [at for at, row in enumerate(rows) if row in o.empty_rows])
        for o in given.others
    ]
    return Distributions(given.main, given.logprobs[rows], given.probs[rows], others, given.num_members)


@pytest.mark.parametrize("places", list(itertools.product(Place, repeat=2)))
def test_the_share_of_beginnings_is_that_of_the_loop(places):
    given = make_given(batch=2, empty_rows=((1,), ()))
    for found, expected in zip(WEIGHER.share_of_beginnings(given, places), share_by_loop(given, places), strict=True):
        assert found == pytest.approx(expected, abs=TOLERANCE)


def test_where_no_word_is_open_everything_begins_one():
    for row in WEIGHER.share_of_beginnings(make_given(), [Place.BETWEEN] * len(PLACES)):
        assert row == [1.0] * 3


def test_a_member_that_was_not_asked_begins_a_word_as_the_main_model_does():
    given = make_given()
    asked = Distributions(MAIN, given.logprobs, given.probs, given.others[:1], 3)
    for row in WEIGHER.share_of_beginnings(asked, PLACES):
        assert row[2] == row[MAIN]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("empty_rows", [((), ()), ((0,), (0, 2))])
def test_what_each_member_adds_is_that_of_the_loop_and_sums_to_one(seed, empty_rows):
    given = make_given(seed, empty_rows)
    factors = make_factors(given, PLACES, seed)
    step = WEIGHER.weigh(given, PLACES, factors)
    assert step.weights.sum(dim=-1).tolist() == pytest.approx([1.0] * len(PLACES), abs=TOLERANCE)
    for row in range(len(PLACES)):
        expected = weigh_by_loop(given, PLACES, factors, row)
        same(added_by(step, row), expected)
        assert sum(expected.values()) == pytest.approx(1, abs=TOLERANCE)
        assert float(step.probs[row].sum()) == pytest.approx(1, abs=TOLERANCE)
        assert torch.equal(step.logprobs[row], step.probs[row].log())


def test_where_no_word_is_open_in_any_row_the_distributions_stay_as_they_are():
    given = make_given()
    places = [Place.BETWEEN] * len(PLACES)
    step = WEIGHER.weigh(given, places, make_factors(given, places))
    assert step.probs is given.probs and step.logprobs is given.logprobs
    assert [other.projected for other in step.others] == [other.projected for other in given.others]
    assert step.weights.tolist()[0] == pytest.approx([0.2, 0.5, 0.3])


@pytest.mark.parametrize("silent", [0, 2])
def test_a_member_without_weight_adds_nothing_and_leaves_the_others_as_they_are(silent):
    weights = [0.4, 0.4, 0.4]
    weights[silent] = 0.0
    weights = tuple(weight / sum(weights) for weight in weights)
    given = make_given(empty_rows=((), ()))
    factors = make_factors(given, PLACES, weights=weights)
    step = WEIGHER.weigh(given, PLACES, factors)
    assert [other.member for other in step.others] == [2 - silent]
    for row in range(len(PLACES)):
        same(added_by(step, row), weigh_by_loop(given, PLACES, factors, row))


@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_a_main_model_without_weight_leaves_rows_that_are_distributions(mean):
    """It still stands in for what its tokens cannot express."""
    given = make_given(empty_rows=((), ()))
    factors = make_factors(given, PLACES, weights=(0.6, 0.0, 0.4))
    fused = TextFusion(mean).combine(WEIGHER.weigh(given, PLACES, factors))
    assert fused.exp().sum(dim=-1).tolist() == pytest.approx([1.0] * len(PLACES), abs=TOLERANCE)


@pytest.mark.parametrize("seed", range(3))
def test_a_row_never_depends_on_the_others(seed):
    given = make_given(seed)
    factors = make_factors(given, PLACES, seed)
    together = WEIGHER.weigh(given, PLACES, factors)
    shares = WEIGHER.share_of_beginnings(given, PLACES)
    for row in range(len(PLACES)):
        one = pick(given, [row])
        assert WEIGHER.share_of_beginnings(one, PLACES[row : row + 1])[0] == pytest.approx(shares[row], abs=TOLERANCE)
        alone = WEIGHER.weigh(one, PLACES[row : row + 1], factors[row : row + 1])
        same(added_by(alone, 0), {key: p for key, p in added_by(together, row).items() if p})


def test_what_is_not_a_members_own_is_completed_by_the_main_model():
    given = make_given(empty_rows=((), ()))
    shares = [[1.0, 1.0, 1.0], [0.25, 1.0, 1.0], [0.0, 1.0, 0.5], [1.0, 1.0, 0.125]]
    completed = WEIGHER.complete(given, shares)
    for row, of_row in enumerate(shares):
        for before, after in zip(given.others, completed.others, strict=True):
            share = of_row[before.member]
            expected = share * before.projected[row] + (1 - share) * given.probs[row]
            torch.testing.assert_close(after.projected[row], expected, atol=TOLERANCE, rtol=0)
            if before.own is not None:
                torch.testing.assert_close(after.own[row], share * before.own[row], atol=TOLERANCE, rtol=0)
            total = after.projected[row].sum() + (0 if after.own is None else after.own[row].sum())
            assert float(total) == pytest.approx(1, abs=TOLERANCE)
    assert completed.probs is given.probs


def test_where_everything_is_the_members_own_nothing_is_touched():
    given = make_given()
    assert WEIGHER.complete(given, [[1.0] * 3] * len(PLACES)) is given


def test_a_member_that_has_only_tokens_of_its_own_is_completed_and_weighed_too():
    given = make_given(empty_rows=((), ()))
    own = draw(torch.Generator().manual_seed(5), len(PLACES), len(TOKENS[0]))
    given = Distributions(MAIN, given.logprobs, given.probs, [Distribution(0, None, own), given.others[1]], 3)
    completed = WEIGHER.complete(given, [[0.5, 1.0, 1.0]] * len(PLACES)).others[0]
    torch.testing.assert_close(completed.projected, 0.5 * given.probs)
    torch.testing.assert_close(completed.own, 0.5 * own)
    for place in Place:
        expected = [
            sum(p for t, p in zip(TOKENS[0], row, strict=True) if begins_word(t, place)) for row in own.tolist()
        ]
        found = WEIGHER.share_of_beginnings(given, [place] * len(PLACES))
        assert [row[0] for row in found] == pytest.approx(expected, abs=TOLERANCE)
