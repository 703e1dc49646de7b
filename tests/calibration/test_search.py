from __future__ import annotations

import math

import pytest

from deepen_llm.calibration.development_set import MIN_ROWS, DevelopmentSet
from deepen_llm.calibration.search import Calibration, Choice, Trial, calibrate, measure_uniform
from deepen_llm.errors import ConfigError

ROWS = DevelopmentSet.of_pairs("rows", [(f"question {i}", f" answer {i}") for i in range(40)])


def make_measure(score, spread=0.0, rows=ROWS):
    """A measure with a known mean score, rows alternately above and below it, and a record of what was asked."""
    asked = []

    def measure(choice):
        asked.append(choice)
        mean = score(choice)
        scores = tuple(mean + spread * (-1) ** at for at in range(len(rows.rows)))
        return Trial(choice, scores, tuple(at % 4 == 0 for at in range(len(rows.rows))))

    return measure, asked


def hill(main=1, weights=(0.6, 0.1, 0.3), trust=0.5):
    """Highest at this choice, lower the farther away."""

    def score(choice):
        away = sum(abs(a - b) for a, b in zip(choice.weights, weights, strict=True))
        return -(choice.main != main) - away - abs(choice.trust - trust)

    return score


@pytest.mark.parametrize(
    "top",
    [
        {"main": 1, "weights": (0.6, 0.1, 0.3), "trust": 0.5},
        {"main": 0, "weights": (0.0, 0.0, 1.0), "trust": 1.0},
        {"main": 2, "weights": (0.3, 0.4, 0.3), "trust": 0.75},
    ],
)
def test_the_search_climbs_to_the_top_in_every_coordinate(top):
    measure, asked = make_measure(hill(**top))

    found = calibrate(measure, ROWS, num_members=3, other_mains=(1, 2))

    assert found.best.choice == Choice(**top)
    assert len(asked) == len(set(asked)) < 80
    assert all(sum(choice.weights) == pytest.approx(1) and min(choice.weights) >= 0 for choice in asked)


def test_weights_are_whole_parts_and_the_same_every_time():
    found = [calibrate(make_measure(hill())[0], ROWS, num_members=3, num_parts=20) for _ in range(2)]

    assert found[0] == found[1]
    searched = [trial.choice for trial in found[0].trials if len(set(trial.choice.weights)) > 1]
    assert all(20 * weight == pytest.approx(round(20 * weight)) for choice in searched for weight in choice.weights)


def test_every_main_model_is_tried_alone_and_with_uniform_weights():
    measure, asked = make_measure(hill())
    calibrate(measure, ROWS, num_members=3, main=1, other_mains=(0, 2))

    for main in range(3):
        assert Choice(main, tuple(float(member == main) for member in range(3)), 1.0) in asked
        assert Choice(main, (1 / 3,) * 3, 1.0) in asked
    assert asked[0] == Choice(1, (1 / 3,) * 3, 1.0)


def test_a_main_model_that_is_given_stays():
    measure, asked = make_measure(hill(main=1))

    found = calibrate(measure, ROWS, num_members=3, main=2)

    assert {choice.main for choice in asked} == {2}
    assert found.chosen.choice.main == 2


def test_the_search_starts_from_the_trust_as_it_is():
    measure, asked = make_measure(lambda choice: choice.trust)

    found = calibrate(measure, ROWS, num_members=2, trust=0.6)

    assert asked[0].trust == 0.6
    assert found.best.choice.trust == 1.0


def test_what_gains_nothing_beyond_doubt_is_not_chosen():
    def noisy(choice):
        """The best choice gains 0.1 on average, by rows that differ by 10."""
        is_best = choice.weights == (0.7, 0.3)
        scores = tuple(0.1 + 10 * (-1) ** at if is_best else 0.0 for at in range(40))
        return Trial(choice, scores, (False,) * 40)

    steps = {(0.5, 0.5): 0.0, (0.6, 0.4): 0.01}

    def measure(choice):
        if choice.weights in steps:
            return Trial(choice, (steps[choice.weights],) * 40, (False,) * 40)
        return noisy(choice) if choice.weights == (0.7, 0.3) else Trial(choice, (-1.0,) * 40, (False,) * 40)

    found = calibrate(measure, ROWS, num_members=2)

    assert found.best.choice.weights == (0.7, 0.3)
    assert found.best.gain_over(found.start).low < 0 < found.best.gain_over(found.start).high
    assert found.chosen == found.start


def test_another_main_model_of_uniform_weights_is_taken_where_its_gain_alone_is_sure():
    uniform, tuned = (0.5, 0.5), (0.6, 0.4)

    def measure(choice):
        scores = {(1, uniform): (1.0,) * 40, (1, tuned): tuple(1.1 + 50 * (-1) ** at for at in range(40))}
        return Trial(choice, scores.get((choice.main, choice.weights), (0.0,) * 40), (False,) * 40)

    found = calibrate(measure, ROWS, num_members=2, other_mains=(1,))

    assert found.best.choice == Choice(1, tuned, 1.0)
    assert found.chosen.choice == Choice(1, uniform, 1.0)


def test_the_best_alone_and_the_best_with_uniform_weights_are_among_the_trials():
    measure, _ = make_measure(hill(weights=(0.3, 0.5, 0.2)))
    found = calibrate(measure, ROWS, num_members=3, other_mains=(1, 2))

    assert found.best_alone.choice == Choice(1, (0.0, 1.0, 0.0), 1.0)
    assert found.best_uniform.choice == Choice(1, (1 / 3,) * 3, 1.0)
    assert found.chosen == found.best


def test_equal_scores_leave_everything_as_it_is():
    found = calibrate(make_measure(lambda choice: -2.0)[0], ROWS, num_members=3, main=2, other_mains=(0, 1))

    assert found.best == found.chosen == found.start
    assert found.start.choice == Choice(2, (1 / 3,) * 3, 1.0)


def test_a_gain_is_paired_row_by_row():
    choice = Choice(0, (0.5, 0.5), 1.0)
    low = Trial(choice, tuple(float(-at) for at in range(40)), (False,) * 40)
    high = Trial(choice, tuple(0.5 - at for at in range(40)), (True,) * 40)

    gain = high.gain_over(low)

    assert (gain.value, gain.low, gain.high) == pytest.approx((0.5, 0.5, 0.5))
    assert high.score.high - high.score.low > 5
    assert (low.accuracy.value, high.accuracy.value) == (0, 1)


@pytest.mark.parametrize("num_rows", [1, 3, MIN_ROWS - 1])
def test_too_few_rows_are_refused_with_the_interval(num_rows):
    few = DevelopmentSet.of_pairs("few.jsonl", [("q", f" {i}") for i in range(num_rows)])
    measure, asked = make_measure(lambda choice: -2.0, spread=0.5, rows=few)

    with pytest.raises(ConfigError, match="at least 30 rows") as refused:
        calibrate(measure, few, num_members=2)

    assert f"few.jsonl has {num_rows} of them" in str(refused.value) and "--uniform" in str(refused.value)
    score = asked and measure(asked[0]).score
    expected = f"95% interval {score.low:.3f} to {score.high:.3f}, {score.high - score.low:.3f} wide"
    assert (expected if num_rows > 1 else "one row has no interval") in str(refused.value)
    assert len(asked) == 2  # uniform weights, and the look of this test


def test_answers_that_are_all_the_same_are_refused():
    same = DevelopmentSet.of_pairs("same.jsonl", [(f"q {i}", " Yes" if i % 2 else " yes ") for i in range(50)])
    measure, asked = make_measure(lambda choice: -2.0, spread=0.5, rows=same)

    with pytest.raises(ConfigError, match=r"in same\.jsonl every answer is 'yes'.*interval"):
        calibrate(measure, same, num_members=2)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"num_members": 1}, "got 1 members"), ({"num_members": 3, "num_parts": 2}, "3 members, 2 parts")],
)
def test_what_cannot_be_searched_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        calibrate(make_measure(hill())[0], ROWS, **settings)


def test_an_impossible_answer_never_wins():
    measure, _ = make_measure(lambda choice: -1.0 if choice.is_alone else -math.inf)

    found = calibrate(measure, ROWS, num_members=2)

    assert found.chosen.choice.is_alone
    assert found.start.score.value == -math.inf
    assert found.start.gain_over(found.start).value == 0


def test_answers_that_are_impossible_under_every_choice_are_refused():
    measure, _ = make_measure(lambda choice: -math.inf)

    with pytest.raises(ConfigError, match="every answer must be possible, and one of rows is not"):
        calibrate(measure, ROWS, num_members=2)


def test_uniform_weights_can_be_measured_without_a_choice():
    measure, asked = make_measure(hill())

    found = measure_uniform(measure, num_members=3, main=1, trust=0.5)

    assert asked == [Choice(1, (1 / 3,) * 3, 0.5)]
    assert found == Calibration(found.trials, found.trials[0])
    assert found.chosen == found.start
