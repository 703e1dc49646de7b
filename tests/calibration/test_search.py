from __future__ import annotations

import math
from dataclasses import replace

import pytest

from deepen_llm.calibration.development_set import MIN_ROWS, DevelopmentSet
from deepen_llm.calibration.search import Calibration, Choice, Trial, calibrate, measure_start
from deepen_llm.errors import ConfigError

ROWS = DevelopmentSet.of_pairs("rows", [(f"question {i}", f" answer {i}") for i in range(40)])


THIRDS = Choice(0, (1 / 3,) * 3, 1.0)
HALVES = Choice(0, (0.5, 0.5), 1.0)
LEARNING = Choice(0, (1 / 3,) * 3, 1.0, 0.15, 0.4)


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

    found = calibrate(measure, ROWS, THIRDS, other_mains=(1, 2))

    assert found.best.choice == Choice(**top)
    assert len(asked) == len(set(asked)) < 80
    assert all(sum(choice.weights) == pytest.approx(1) and min(choice.weights) >= 0 for choice in asked)


def test_weights_are_whole_parts_and_the_same_every_time():
    found = [calibrate(make_measure(hill())[0], ROWS, THIRDS, num_parts=20) for _ in range(2)]

    assert found[0] == found[1]
    searched = [trial.choice for trial in found[0].trials if len(set(trial.choice.weights)) > 1]
    assert all(20 * weight == pytest.approx(round(20 * weight)) for choice in searched for weight in choice.weights)


def test_every_main_model_is_tried_alone_and_with_uniform_weights():
    measure, asked = make_measure(hill())
    calibrate(measure, ROWS, replace(THIRDS, main=1), other_mains=(0, 2))

    for main in range(3):
        assert Choice(main, tuple(float(member == main) for member in range(3)), 1.0) in asked
        assert Choice(main, (1 / 3,) * 3, 1.0) in asked
    assert asked[0] == Choice(1, (1 / 3,) * 3, 1.0)


def test_a_main_model_that_is_given_stays():
    measure, asked = make_measure(hill(main=1))

    found = calibrate(measure, ROWS, replace(THIRDS, main=2))

    assert {choice.main for choice in asked} == {2}
    assert found.chosen.choice.main == 2


def test_the_search_starts_from_the_trust_as_it_is():
    measure, asked = make_measure(lambda choice: choice.trust)

    found = calibrate(measure, ROWS, replace(HALVES, trust=0.6))

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

    found = calibrate(measure, ROWS, HALVES)

    assert found.best.choice.weights == (0.7, 0.3)
    assert found.best.gain_over(found.start).low < 0 < found.best.gain_over(found.start).high
    assert found.chosen == found.start


def test_another_main_model_of_uniform_weights_is_taken_where_its_gain_alone_is_sure():
    uniform, tuned = (0.5, 0.5), (0.6, 0.4)

    def measure(choice):
        scores = {(1, uniform): (1.0,) * 40, (1, tuned): tuple(1.1 + 50 * (-1) ** at for at in range(40))}
        return Trial(choice, scores.get((choice.main, choice.weights), (0.0,) * 40), (False,) * 40)

    found = calibrate(measure, ROWS, HALVES, other_mains=(1,))

    assert found.best.choice == Choice(1, tuned, 1.0)
    assert found.chosen.choice == Choice(1, uniform, 1.0)


def test_the_best_alone_and_the_best_with_uniform_weights_are_among_the_trials():
    measure, _ = make_measure(hill(weights=(0.3, 0.5, 0.2)))
    found = calibrate(measure, ROWS, THIRDS, other_mains=(1, 2))

    assert found.best_alone.choice == Choice(1, (0.0, 1.0, 0.0), 1.0)
    assert found.best_as_begun.choice == Choice(1, (1 / 3,) * 3, 1.0)
    assert found.chosen == found.best


def test_equal_scores_leave_everything_as_it_is():
    found = calibrate(make_measure(lambda choice: -2.0)[0], ROWS, replace(THIRDS, main=2), other_mains=(0, 1))

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
        calibrate(measure, few, HALVES)

    assert f"few.jsonl has {num_rows} of them" in str(refused.value) and "--uniform" in str(refused.value)
    score = asked and measure(asked[0]).bits_per_byte
    expected = f"95% interval {score.low:.3f} to {score.high:.3f}, {score.high - score.low:.3f} wide"
    assert (expected if num_rows > 1 else "one row has no interval") in str(refused.value)
    assert len(asked) == 2  # uniform weights, and the look of this test


def test_answers_that_are_all_the_same_are_refused():
    same = DevelopmentSet.of_pairs("same.jsonl", [(f"q {i}", " Yes" if i % 2 else " yes ") for i in range(50)])
    measure, asked = make_measure(lambda choice: -2.0, spread=0.5, rows=same)

    with pytest.raises(ConfigError, match=r"in same\.jsonl every answer is 'yes'.*interval"):
        calibrate(measure, same, HALVES)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("start", "num_parts", "message"),
    [(Choice(0, (1.0,), 1.0), 10, "got 1 members"), (THIRDS, 2, "3 members, 2 parts")],
)
def test_what_cannot_be_searched_is_refused(start, num_parts, message):
    with pytest.raises(ConfigError, match=message):
        calibrate(make_measure(hill())[0], ROWS, start, num_parts=num_parts)


def test_an_impossible_answer_never_wins():
    measure, _ = make_measure(lambda choice: -1.0 if choice.is_alone else -math.inf)

    found = calibrate(measure, ROWS, HALVES)

    assert found.chosen.choice.is_alone
    assert found.start.score.value == -math.inf
    assert found.start.gain_over(found.start).value == 0


def test_answers_that_are_impossible_under_every_choice_are_refused():
    measure, _ = make_measure(lambda choice: -math.inf)

    with pytest.raises(ConfigError, match="every answer must be possible, and one of rows is not"):
        calibrate(measure, ROWS, HALVES)


def test_the_start_can_be_measured_without_a_choice():
    measure, asked = make_measure(hill())

    found = measure_start(measure, Choice(1, (1 / 3,) * 3, 0.5))

    assert asked == [Choice(1, (1 / 3,) * 3, 0.5)]
    assert found == Calibration(found.trials, found.trials[0])
    assert found.chosen == found.start


def learning_hill(eta=0.3, alone=0.8, weights=(0.5, 0.3, 0.2)):
    """Highest where weights learn so."""

    def score(choice):
        away = sum(abs(a - b) for a, b in zip(choice.weights, weights, strict=True))
        return -away - abs(choice.eta - eta) - abs(choice.alone - alone)

    return score


def test_how_weights_learn_is_climbed_too():
    found = calibrate(make_measure(learning_hill())[0], ROWS, LEARNING)
    assert found.chosen.choice == Choice(0, (0.5, 0.3, 0.2), 1.0, 0.3, 0.8)


def test_fixed_weights_stay_fixed():
    measure, asked = make_measure(hill())
    calibrate(measure, ROWS, THIRDS)
    assert not any(choice.learns for choice in asked)


@pytest.mark.parametrize(
    ("weights", "num_parts", "expected"),
    [
        ((0.7, 0.2, 0.1), 10, (0.6, 0.2, 0.2)),
        ((0.98, 0.01, 0.01), 10, (0.8, 0.1, 0.1)),
        ((1 / 3,) * 3, 10, (0.3, 0.4, 0.3)),
        ((0.2, 0.5, 0.3), 3, (1 / 3,) * 3),
    ],
)
def test_a_prior_is_put_on_the_grid_with_a_part_for_everyone(weights, num_parts, expected):
    measure, asked = make_measure(lambda choice: 0.0)
    calibrate(measure, ROWS, replace(LEARNING, main=1, weights=weights), num_parts=num_parts)
    on_grid = next(choice for choice in asked[1:] if not choice.is_alone)
    assert on_grid.weights == pytest.approx(expected)


def alone_at(best, gain=1.0):
    """Members that are best alone at their own temperatures; together they are so halfway there."""
    halfway = tuple(round(math.sqrt(t), 2) for t in best)

    def score(choice):
        if choice.is_alone:
            return -10 - gain * abs(math.log(choice.temperatures[choice.main] / best[choice.main]))
        return -sum(abs(math.log(t / b)) for t, b in zip(choice.temperatures, halfway, strict=True))

    return score


def test_each_members_temperature_is_fitted_alone_and_then_how_far_to_go_there():
    best = (2.0, 1.3, 0.7)
    measure, asked = make_measure(alone_at(best))
    found = calibrate(measure, ROWS, replace(LEARNING, temperatures=(1.0,) * 3))

    assert [fit.after.choice.temperatures[at] for at, fit in enumerate(found.fits)] == pytest.approx(best, rel=0.03)
    assert found.chosen.choice.temperatures == pytest.approx([math.sqrt(t) for t in best], rel=0.03)
    assert len(asked) == len(set(asked))  # a member alone at its temperature is not scored again
    assert len([trial for trial in found.trials if trial.choice.is_alone]) == 1


def test_temperatures_that_gain_nothing_beyond_doubt_stay():
    def measure(choice):
        if not choice.is_alone:
            return Trial(choice, (0.0,) * 40, (False,) * 40)
        away = abs(math.log(choice.temperatures[choice.main] / 2))
        noise = 50 if choice.temperatures[choice.main] != 1 else 0
        return Trial(choice, tuple(-away + noise * (-1) ** at for at in range(40)), (False,) * 40)

    found = calibrate(measure, ROWS, replace(LEARNING, temperatures=(1.0,) * 3))
    assert all(fit.after is fit.before for fit in found.fits)
    assert {trial.choice.temperatures for trial in found.trials} == {(1.0,) * 3}


def near(spread=0.5):
    """Choices with a prior of more than a half for the first are far better than others, and hardly differ."""

    def measure(choice):
        weight = choice.weights[0]
        mean = 5 + weight / 100 if 0.5 < weight < 1 and choice.trust == 1 else 0.0
        return Trial(choice, tuple(mean + weight * spread * (-1) ** (at // 2) for at in range(40)), (False,) * 40)

    return measure


def test_right_answers_choose_where_bits_do_not():
    right = {0.5: 25, 0.6: 20, 0.7: 30, 0.8: 30, 0.9: 10}
    asked = []

    def count_right(choice):
        asked.append(choice)
        return right[choice.weights[0]]

    found = calibrate(near(), ROWS, HALVES, count_right=count_right)

    assert found.best.choice.weights == (0.9, 0.1)
    assert [choice.weights[0] for choice in asked] == [0.5, 0.9, 0.8, 0.7, 0.6]
    assert found.chosen.choice.weights == (0.8, 0.2)  # of the two, the one that needs fewer bits
    assert found.num_right[found.chosen.choice] == 30


def test_what_has_fewer_right_answers_than_the_start_is_not_taken():
    found = calibrate(near(), ROWS, HALVES, count_right=lambda choice: 20 if choice == HALVES else 19)
    assert found.has_fewer_right and found.chosen is found.start
    found = calibrate(near(), ROWS, HALVES, count_right=lambda choice: 20)
    assert not found.has_fewer_right and found.chosen is found.best


def test_right_answers_are_not_counted_where_nothing_is_better_or_answers_are_long():
    def refuse(choice):
        raise AssertionError("nothing is near")

    found = calibrate(make_measure(lambda choice: 0.0)[0], ROWS, THIRDS, count_right=refuse)
    assert found.chosen is found.start and not found.rivals
    found = calibrate(near(), ROWS, HALVES)
    assert found.chosen is found.best and len(found.rivals) == 4
