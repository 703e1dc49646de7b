"""The numerical tests pass under every instruction set that the machine has, with one thread and with two.

torch takes other kernels for each, with sums in another order. A test that compares two float32 computations more
closely than their rounding allows passes on one processor and fails on the next; `tests/rounding.py` says how closely
that is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
NUMERICAL = (
    "tests/fusion",
    "tests/bench/test_reference.py",
    "tests/projection/test_tables.py",
    "tests/members/transformers/test_attention.py",
    "tests/members/transformers/test_cache.py",
    "tests/decoding/test_step.py",
    "tests/weighting/test_prompt.py",
)
"""Those of the rest compare float64 or whole answers, or take too long to be run five times more."""
SETS = ("default", "avx2", "avx512")


def sets_of_this_machine() -> list[str]:
    """Those up to the best one that torch finds; the plain one alone where it has no such choice."""
    best = torch.backends.cpu.get_cpu_capability().lower()
    return list(SETS[: SETS.index(best) + 1]) if best in SETS else ["default"]


def run(instructions: str, num_threads: int) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "ATEN_CPU_CAPABILITY": instructions,
        "OMP_NUM_THREADS": str(num_threads),
        "MKL_NUM_THREADS": str(num_threads),
        "OMP_WAIT_POLICY": "passive",  # threads that spin while they wait take the processor from the other run
    }
    options = ["-q", "-x", "-p", "no:cacheprovider", "-m", "not slow and not gpu and not ray and not lengthy"]
    command = [sys.executable, "-m", "pytest", *options, *NUMERICAL]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.timeout(900)
def test_the_numerical_tests_pass_under_every_instruction_set_with_one_thread_and_with_two():
    sets = sets_of_this_machine()
    # The best one with one thread is what the whole suite runs with.
    cases = [(name, count) for count in (2, 1) for name in sets if (name, count) != (sets[-1], 1)]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda case: run(*case), cases))
    failed = {case: one.stdout[-3000:] for case, one in zip(cases, done, strict=True) if one.returncode != 0}
    assert not failed
