from __future__ import annotations

import pytest

from deepen_llm.bench.timing import Spread, ratios, take_turns


def test_cases_take_turns_after_one_unrecorded_run_each():
    order = []

    def case(name, values):
        remaining = iter(values)

        def run():
            order.append(name)
            return next(remaining)

        return run

    times = take_turns({"a": case("a", [9.0, 1.0, 2.0]), "b": case("b", [9.0, 3.0, 4.0])}, 2)
    assert "".join(order) == "ababab"
    assert times == {"a": [1.0, 2.0], "b": [3.0, 4.0]}


def test_ratios_are_taken_round_by_round_and_sums_are_of_one_round():
    times = {"both": [4.0, 9.0, 10.0], "one": [1.0, 2.0, 3.0], "other": [1.0, 1.0, 2.0]}
    assert ratios(times, ("both",), ("one", "other")).runs == pytest.approx((2.0, 3.0, 2.0))


def test_a_spread_has_median_and_ends():
    spread = Spread((3.0, 1.0, 2.0))
    assert (spread.low, spread.median, spread.high) == (1.0, 2.0, 3.0)
