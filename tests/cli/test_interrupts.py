from __future__ import annotations

import os
import signal

import pytest

from deepen_llm.cli.interrupts import Interrupts


@pytest.fixture(autouse=True)
def _default_handler():
    """As in a program that a terminal started; a shell's background job ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_what_runs_and_is_dropped_everywhere_else():
    done = []
    with Interrupts() as interrupts:
        interrupt()
        assert not interrupts.run(lambda: (done.append(1), interrupt(), done.append(2)))
        interrupt()
        assert interrupts.run(lambda: done.append(3))
        interrupt()
    assert done == [1, 3]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_does_not_hit_what_tidies_up_after_the_first():
    tidied = []

    def work():
        try:
            interrupt()
        finally:
            interrupt()
            tidied.append(True)

    with Interrupts() as interrupts:
        assert not interrupts.run(work)
    assert tidied == [True]


def test_where_ctrl_c_is_ignored_it_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_errors_pass_through():
    with Interrupts() as interrupts, pytest.raises(ValueError, match="as it is"):
        interrupts.run(lambda: (_ for _ in ()).throw(ValueError("as it is")))
