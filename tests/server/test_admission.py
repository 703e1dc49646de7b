"""How many answers are taken on at the same time."""

from __future__ import annotations

import pytest

from deepen_llm.server.admission import Admission
from deepen_llm.server.refusals import RefusedError


def test_as_many_are_taken_as_run_and_wait_and_then_none():
    admission = Admission(2, 1)
    with admission.take(2):
        with admission.take(1):
            assert admission.num_taken == 3
            with pytest.raises(RefusedError, match="3 answers run or wait, and 3 may") as caught, admission.take(1):
                pass
            assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "1"})
        with admission.take(1):
            pass
    assert admission.num_taken == 0


def test_one_that_fails_leaves_its_place():
    admission = Admission(1, 0)
    with pytest.raises(ZeroDivisionError), admission.take(1):
        raise ZeroDivisionError
    assert admission.num_taken == 0


def test_what_never_fits_is_the_clients_fault():
    with pytest.raises(RefusedError, match=r"3 answers at most.*got 4") as caught, Admission(2, 1).take(4):
        pass
    assert (caught.value.status, caught.value.param) == (400, "n")


def test_a_server_that_ends_takes_on_nothing():
    admission = Admission(2, 1)
    admission.is_draining = True
    with pytest.raises(RefusedError, match="ending") as caught, admission.take(1):
        pass
    assert caught.value.status == 503
