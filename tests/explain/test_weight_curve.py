from __future__ import annotations

from itertools import pairwise

from deepen_llm.explain.weight_curve import WeightCurve
from deepen_llm.results import StepTrace

NAMES = ("one", "two")


def steps(*weights):
    return [StepTrace(at, 1, "x", (), (), weights=given) for at, given in enumerate(weights)]


def test_a_point_is_each_step_that_has_weights_and_the_end():
    curve = WeightCurve.trace(NAMES, steps((), (0.5, 0.5), (), (0.75, 0.25)), (0.875, 0.125))
    assert curve.points == ((1, (0.5, 0.5)), (3, (0.75, 0.25)), (4, (0.875, 0.125)))
    assert (curve.first, curve.last) == ((0.5, 0.5), (0.875, 0.125))


def test_without_last_weights_those_of_the_last_step_stay():
    assert WeightCurve.trace(NAMES, steps((0.5, 0.5), ())).points == ((0, (0.5, 0.5)), (2, (0.5, 0.5)))


def test_an_answer_of_one_token_has_a_beginning_and_an_end():
    assert len(WeightCurve.trace(NAMES, steps((0.5, 0.5)), (0.75, 0.25)).points) == 2


def test_where_no_step_has_weights_there_is_no_curve():
    curve = WeightCurve.trace(NAMES, steps((), ()), (0.5, 0.5))
    assert (curve.points, curve.first, curve.last) == ((), (), ())
    assert curve.is_level


def test_level_is_what_nobody_could_see_move():
    assert WeightCurve.trace(NAMES, steps((0.5, 0.5), (0.5004, 0.4996))).is_level
    assert not WeightCurve.trace(NAMES, steps((0.5, 0.5), (0.75, 0.25), (0.5, 0.5))).is_level, "there and back"


def test_a_long_curve_is_thinned_and_keeps_its_ends():
    curve = WeightCurve.trace(NAMES, steps(*((at / 4000, 1 - at / 4000) for at in range(4001))))
    thinned = curve.thin()
    assert len(thinned.points) == 500
    assert (thinned.points[0], thinned.points[-1]) == (curve.points[0], curve.points[-1])
    places = [at for at, _ in thinned.points]
    assert places == sorted(set(places))
    assert {round(after - before) for before, after in pairwise(places)} <= {8, 9}
    assert curve.thin(5000) is curve
