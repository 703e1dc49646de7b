"""When reading ahead pays."""

from __future__ import annotations

import pytest

from deepen_llm.decoding.speculation.length import BEGUN, AcceptanceRate, Cost


def test_a_token_is_checked_where_its_chance_is_worth_more_than_it_costs():
    cost = Cost(write=0.0, check=0.1)
    assert cost.pays_to_check(0.16) and not cost.pays_to_check(0.14)


@pytest.mark.parametrize(
    ("write", "chance", "share", "pays"),
    [
        (0.02, 0.3, 0.5, True),  # a cheap writer goes on with little hope
        (0.5, 0.3, 0.5, False),  # one that costs as much as all others does not
        (0.5, 0.95, 0.9, True),
        (0.02, 0.05, 0.5, False),
    ],
)
def test_writing_on_pays_where_what_is_saved_outweighs_what_may_be_wasted(write, chance, share, pays):
    assert Cost(write=write, check=0.05).pays_to_write_on(chance, share) is pays


def test_a_rate_begins_as_it_is_told_and_comes_to_what_is_seen():
    rate = AcceptanceRate.begin(0.25)
    assert rate.share == 0.25
    for place in range(500):
        rate.note(1.0, is_true=place % 2 == 0)
    assert rate.share == pytest.approx(0.5, abs=0.02)


def test_a_source_that_claims_too_much_is_believed_less_and_one_that_claims_too_little_no_more():
    boasting, modest = AcceptanceRate(BEGUN), AcceptanceRate(BEGUN)
    for place in range(500):
        boasting.note(0.8, is_true=place % 5 < 2)
        modest.note(0.2, is_true=place % 5 < 2)
    assert boasting.share == pytest.approx(0.5, abs=0.03)
    assert modest.share == 1.0
