"""Several requests at once end together."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest

from deepen_llm.errors import MemberTimeoutError
from deepen_llm.requests.deadline import Deadline
from deepen_llm.requests.futures import cancel, gather, submit_aside, wait


def make_futures(*results):
    futures = [Future() for _ in results]
    for future, result in zip(futures, results, strict=True):
        if isinstance(result, Exception):
            future.set_exception(result)
        elif result is not None:
            future.set_result(result)
    return futures


def test_all_results_come_in_order():
    assert wait(make_futures(1, 2, 3), Deadline(None)) == [1, 2, 3]


def test_the_first_error_ends_the_others():
    futures = make_futures(1, ValueError("no"), None)
    with pytest.raises(ValueError, match="no"):
        wait(futures, Deadline(None))
    assert futures[2].cancelled()


def test_the_deadline_ends_all_that_are_not_done():
    futures = make_futures(None, None)
    with pytest.raises(MemberTimeoutError):
        wait(futures, Deadline(0.01))
    assert all(future.cancelled() for future in futures)


async def test_an_event_loop_gets_the_same():
    assert await gather(make_futures(1, 2), Deadline(None)) == [1, 2]
    late, bad = make_futures(None, None), make_futures(ValueError("no"), None)
    with pytest.raises(MemberTimeoutError):
        await gather(late, Deadline(0.01))
    with pytest.raises(ValueError, match="no"):
        await gather(bad, Deadline(None))
    assert all(future.cancelled() for future in (*late, bad[1]))


@pytest.mark.parametrize("is_slow", [True, False])
async def test_what_is_submitted_aside_comes_back(is_slow):
    futures = make_futures(1)
    assert await submit_aside(lambda: futures, is_slow=is_slow) == futures


async def test_what_was_submitted_for_somebody_who_has_gone_is_cancelled():
    futures, go_on = make_futures(None), asyncio.Event()
    loop = asyncio.get_running_loop()

    def submit():
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(5)
        return futures

    task = asyncio.create_task(submit_aside(submit, is_slow=True))
    await asyncio.sleep(0.01)
    task.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(100):
        if futures[0].cancelled():
            break
        await asyncio.sleep(0.01)
    assert futures[0].cancelled()


def test_cancelling_leaves_what_is_done_alone():
    futures = make_futures(1, None)
    cancel(futures)
    assert futures[0].result() == 1 and futures[1].cancelled()
