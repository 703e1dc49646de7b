"""Waiting for several requests at once, in a thread and in an event loop: all end together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from deepen_llm.requests.deadline import Deadline

Ask = TypeVar("Ask")
Result = TypeVar("Result")


def submit_all(submit: Callable[[Ask], list[Future[Result]]], asks: Sequence[Ask]) -> list[Future[Result]]:
    """Submit several requests, or none where one of them cannot be; their futures, one behind another."""
    futures: list[Future[Result]] = []
    try:
        for ask in asks:
            futures += submit(ask)
    except BaseException:
        cancel(futures)
        raise
    return futures


def wait(futures: Sequence[Future[Result]], deadline: Deadline) -> list[Result]:
    """All results; the first error, the deadline or Ctrl-C ends all of them."""
    try:
        return [deadline.result_of(future) for future in futures]
    except BaseException:
        cancel(futures)
        raise


async def submit_aside(submit: Callable[[], list[Future[Result]]], *, is_slow: bool = True) -> list[Future[Result]]:
    """Submit from an event loop: in another thread where that may take long."""
    if not is_slow:
        return submit()
    submitting = asyncio.get_running_loop().run_in_executor(None, submit)
    try:
        return await asyncio.shield(submitting)
    except asyncio.CancelledError:
        submitting.add_done_callback(_cancel_submitted)
        raise


def _cancel_submitted(done: asyncio.Future[list[Future[Result]]]) -> None:
    """Cancel what was submitted for somebody who has gone."""
    if not done.cancelled() and done.exception() is None:
        cancel(done.result())


async def gather(futures: Sequence[Future[Result]], deadline: Deadline) -> list[Result]:
    """All results without blocking the loop; an error, the deadline or the task's cancellation ends the rest."""
    try:
        async with asyncio.timeout(deadline.remaining_s) as limit:
            return list(await asyncio.gather(*map(asyncio.wrap_future, futures)))
    except TimeoutError:
        if not limit.expired():
            raise
        cancel(futures)
        if any(future.cancelled() for future in futures):
            raise deadline.error from None
        return [future.result() for future in futures]  # in time, while the loop was busy elsewhere
    finally:
        cancel(futures)


def cancel(futures: Sequence[Future[Any]]) -> None:
    """End the work for all of them; nothing happens to those that are done."""
    for future in futures:
        future.cancel()
