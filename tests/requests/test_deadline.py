"""The end of the time that a request may take."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from deepen_llm.errors import MemberTimeoutError
from deepen_llm.requests.deadline import Deadline


def test_time_runs_out_and_no_further():
    assert 0 < Deadline(60).remaining_s <= 60
    assert Deadline(0.0).remaining_s == 0
    assert Deadline(0.0).is_over and not Deadline(60).is_over


def test_without_a_limit_there_is_no_end():
    assert Deadline(None).remaining_s is None
    assert not Deadline(None).is_over


def test_a_result_that_is_there_counts_though_the_time_is_over():
    future = Future()
    with pytest.raises(MemberTimeoutError, match=r"within its timeout of 0 s; .*: raise the timeout"):
        Deadline(0.0).result_of(future)
    future.set_result("done")
    assert Deadline(0.0).result_of(future) == "done"


def test_a_timeout_error_of_the_work_itself_is_not_taken_for_the_limit():
    future = Future()
    future.set_exception(TimeoutError("its own"))
    with pytest.raises(TimeoutError, match="its own"):
        Deadline(60).result_of(future)
