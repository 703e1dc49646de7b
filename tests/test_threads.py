"""Threads that compute."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from deepen_llm.threads import share_out, use_threads


def run_in_thread(act):
    found = []
    thread = threading.Thread(target=lambda: found.append(act()))
    thread.start()
    thread.join()
    return found[0]


def test_only_the_calling_thread_changes():
    before = torch.get_num_threads()
    inside = run_in_thread(lambda: (use_threads(before + 1), torch.get_num_threads())[1])
    assert inside == before + 1
    assert torch.get_num_threads() == before == run_in_thread(torch.get_num_threads)


def test_threads_that_set_their_number_at_the_same_time_leave_the_others_as_they_are():
    before = torch.get_num_threads()
    threads = [threading.Thread(target=use_threads, args=(before + 1,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert run_in_thread(torch.get_num_threads) == before


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_items(two_threads):
    assert list(share_out(lambda item: (time.sleep(0.01 * (item % 2)), item)[1], range(9))) == list(range(9))


def test_items_are_computed_at_the_same_time_each_in_one_thread(two_threads):
    meeting = threading.Barrier(2, timeout=10)
    assert list(share_out(lambda item: (meeting.wait(), torch.get_num_threads())[1], range(4))) == [1] * 4
    assert torch.get_num_threads() == 2 == run_in_thread(torch.get_num_threads)


def test_where_torch_has_one_thread_the_caller_computes():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert set(share_out(lambda item: threading.get_ident(), range(3))) == {threading.get_ident()}
    finally:
        torch.set_num_threads(before)


def test_inference_mode_holds_in_the_threads(two_threads):
    for mode in (True, False):
        with torch.inference_mode(mode):
            assert set(share_out(lambda item: torch.is_inference_mode_enabled(), range(3))) == {mode}


def test_what_an_item_raises_is_raised_and_the_rest_is_left_out(two_threads):
    computed = []

    def compute(item):
        computed.append(item)
        time.sleep(0.02)
        if item == 1:
            raise ValueError("the second")
        return item

    with pytest.raises(ValueError, match="the second"):
        list(share_out(compute, range(50)))
    assert len(computed) < 10
