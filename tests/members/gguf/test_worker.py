"""Passes run in a thread of their own, one after the other, and what goes wrong in one comes with its result."""

from __future__ import annotations

import threading

import pytest
import torch

from deepen_llm import MemberConfig
from deepen_llm.members.gguf.worker import Worker
from deepen_llm.members.transformers.rows import Extended


@pytest.fixture
def worker():
    worker = Worker("test")
    yield worker
    worker.close()


def make(number, worker, order=None, wait=None):
    def run():
        worker.is_computing.set()
        if wait is not None:
            wait.wait(10)
        if order is not None:
            order.append(number)
        return Extended(torch.full((1, 2), float(number)), {number: torch.zeros(1)})

    return run


def test_a_pass_runs_beside_its_caller_and_passes_follow_one_another(worker):
    go, order = threading.Event(), []
    first = worker.start(make(1, worker, order, go))
    assert order == [], "started, and not waited for"
    go.set()
    second = worker.start(make(2, worker, order))
    assert second.result().tolist() == [[2.0, 2.0]] and order == [1, 2]
    assert first.result().tolist() == [[1.0, 1.0]] and set(first.measured) == {1}


def test_what_goes_wrong_comes_with_the_result_and_the_next_pass_runs(worker):
    def fail():
        raise ValueError("not today")

    failed = worker.start(fail)
    worker.wait()
    with pytest.raises(ValueError, match="not today"):
        failed.result()
    assert worker.start(make(3, worker)).result()[0, 0] == 3


def test_a_row_is_taken_back_or_released_after_the_pass_that_is_under_way(tiny):
    member = MemberConfig(model=tiny, context=128, cache_tokens=512).load()
    with torch.inference_mode():
        gone, short, stays = (member.open() for _ in range(3))
        member.extend({gone: [5, 6], short: [7, 8, 9]})
        started = member.start_extend({stays: [10] * 100})
        member.release(gone)
        member.rollback(short, 1)
        after = member.extend({short: [11]})[0]
        assert started.result().isfinite().all() and member.num_cached == 103
        torch.testing.assert_close(after, member.extend({member.open(): [7, 8, 11]})[0], atol=0.05, rtol=0.05)
    member.close()
