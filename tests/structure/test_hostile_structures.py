"""Structures that nobody means well with: none ends the process, nor takes much memory or time; a good one follows."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deepen_llm import Ensemble, SamplingParams
from deepen_llm.errors import DeepenError
from tests.structure.hostile_structures import GOOD, make

ROOT = Path(__file__).parents[2]
MAX_S = 7.0
"""Seconds for one, compiled and followed: 5 more than a good one on a machine that is busy."""


@pytest.fixture(scope="module")
def starter():
    with Ensemble.starter(["llama"]) as ensemble:
        yield ensemble


def compile_in_a_child(count: int, first: int, timeout_s: float) -> dict:
    """In a process of its own, whose memory is limited, and whose end would be seen."""
    command = [sys.executable, "-m", "tests.structure.hostile_structures", str(count), str(first)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=timeout_s)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def check(report: dict, count: int) -> None:
    assert not report["misses"]
    assert sum(report["counts"].values()) == count
    assert report["slowest"][0] < MAX_S and report["step"][0] < 0.2


def answer_or_own_error(ensemble: Ensemble, seed: int) -> bool:
    """Whether it was answered; whatever is neither an answer nor an own error is raised."""
    begin_s = time.monotonic()
    try:
        ensemble.generate("Once", SamplingParams(**make(seed), max_new_tokens=6, timeout_s=20))
    except DeepenError:
        return False
    finally:
        assert time.monotonic() - begin_s < MAX_S
    return True


def generate_from_many(ensemble: Ensemble, count: int) -> int:
    good = SamplingParams(**GOOD, max_new_tokens=24)
    expected, num_answered = ensemble.generate("Once", good).text, 0
    for seed in range(count):
        num_answered += answer_or_own_error(ensemble, seed)
        if seed % 10 == 0:
            assert ensemble.generate("Once", good).text == expected
    assert ensemble.generate("Once", good).text == expected
    return num_answered


def test_hostile_structures_end_no_process_and_take_little_memory_and_time():
    check(compile_in_a_child(60, 0, 100), 60)


@pytest.mark.slow
def test_thousands_of_hostile_structures_end_no_process_and_take_little_memory_and_time():
    check(compile_in_a_child(2000, 10_000, 280), 2000)


def test_a_request_with_a_hostile_structure_is_answered_or_refused_and_the_next_is_right(starter):
    assert 0 < generate_from_many(starter, 40) < 40


@pytest.mark.slow
def test_hundreds_of_requests_with_hostile_structures_are_answered_or_refused(starter):
    assert 0 < generate_from_many(starter, 500) < 500
