from __future__ import annotations

import time

import pytest

from deepen_llm.bench.division import (
    CHOICE,
    FUSION,
    PARTS,
    PASSES,
    PEEKS,
    READING,
    REST,
    TIMED,
    StepClock,
    measure_division,
)
from deepen_llm.bench.plot import plot_division
from deepen_llm.ensemble import Ensemble
from deepen_llm.starter import MODEL_NAMES


def sleep(clock, part, seconds=0.01, within=None):
    def run():
        time.sleep(seconds)
        if within is not None:
            within()

    return clock.timed(part, run)


def test_what_one_part_takes_within_another_is_the_inner_ones():
    clock = StepClock()
    sleep(clock, REST, within=sleep(clock, FUSION, 0.03))()
    assert 0.01 <= clock.seconds[REST] < 0.03 <= clock.seconds[FUSION]


def test_a_pass_that_reading_waits_for_is_the_readings():
    clock = StepClock()
    sleep(clock, READING, within=sleep(clock, PASSES, 0.02))()
    assert clock.seconds[PEEKS] >= 0.02 and clock.seconds[PASSES] == 0


def test_what_raises_is_counted_and_closed():
    clock = StepClock()

    def fail():
        raise ValueError("this one")

    with pytest.raises(ValueError, match="this one"):
        clock.timed(CHOICE, fail)()
    clock.timed(REST, lambda: None)()
    assert not clock._open


def test_the_parts_make_up_the_steps_and_the_methods_are_as_they_were(tmp_path):
    pytest.importorskip("matplotlib")
    before = [getattr(owner, name) for owner, name, _ in TIMED]
    with Ensemble.starter(members=MODEL_NAMES[:2]) as ensemble:
        divisions = list(measure_division(ensemble, num_tokens=8, num_repetitions=1))
    assert [division.num_prompts for division in divisions] == [1, 8]
    assert all(set(division.milliseconds) == set(PARTS) for division in divisions)
    assert all(division.milliseconds[part] > 0 for division in divisions for part in (PASSES, FUSION, CHOICE, REST))
    assert [getattr(owner, name) for owner, name, _ in TIMED] == before
    plot_division(divisions, tmp_path / "step.svg")
    drawn = (tmp_path / "step.svg").read_text()
    assert drawn.startswith("<?xml") and "legend" in drawn
