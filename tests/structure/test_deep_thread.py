"""Work on a deep stack, waited for as long as there is time."""

from __future__ import annotations

import threading
import time

import pytest

from deepen_llm.errors import GrammarError, MemberTimeoutError
from deepen_llm.requests.deadline import Deadline
from deepen_llm.structure import deep_thread
from deepen_llm.structure.deep_thread import run_deep


class Panic(BaseException):
    """As a Rust panic comes to Python."""


def fail(error):
    raise error


def test_what_the_work_returns_comes_back():
    assert run_deep(lambda: 3) == 3
    assert run_deep(threading.current_thread) is not threading.current_thread()


@pytest.mark.parametrize("error", [ValueError("wrong"), TimeoutError("its own"), Panic(), KeyboardInterrupt()])
def test_what_the_work_raises_is_raised_by_the_caller(error):
    with pytest.raises(type(error)) as caught:
        run_deep(lambda: fail(error))
    assert caught.value is error


def test_other_threads_keep_their_stack():
    before = threading.stack_size()
    run_deep(lambda: None)
    assert threading.stack_size() == before


def test_work_that_takes_too_long_is_an_error_and_goes_on_by_itself(monkeypatch):
    monkeypatch.setattr(deep_thread, "MAX_S", 0.05)
    done = threading.Event()
    with pytest.raises(GrammarError, match=r"must be compiled within 0\.05 s; .* make it simpler"):
        run_deep(lambda: done.wait(10))
    done.set()


def test_the_deadline_of_a_request_ends_the_wait():
    done, begin_s = threading.Event(), time.monotonic()
    with pytest.raises(MemberTimeoutError, match=r"within its timeout of 0\.05 s"):
        run_deep(lambda: done.wait(10), Deadline(0.05))
    assert time.monotonic() - begin_s < 2
    done.set()
    assert run_deep(lambda: 3, Deadline(5)) == run_deep(lambda: 3, Deadline(None)) == 3
