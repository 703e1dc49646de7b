"""Threads that compute: how many torch uses for one of them, and work that is shared out among several."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_SETTING = threading.Lock()
"""One thread at a time: the next would take for the number before what this one has set."""


def use_threads(num_threads: int) -> None:
    """Have torch use this many threads for what the calling thread computes, and leave every other thread as it is."""
    with _SETTING:
        before = torch.get_num_threads()
        torch.set_num_threads(num_threads)
        # torch keeps two numbers: the calling thread's own, and one that threads begin with. The second is put back.
        restore = threading.Thread(target=torch.set_num_threads, args=(before,))
        restore.start()
        restore.join()


def share_out(compute: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """What `compute` gives for each item, in their order, on the processor.

    As many threads as torch has take an item each and compute it alone. Where torch shares out every operation by
    itself, its threads wait for each other at the end of each, which takes longer than the operation on a machine that
    has other work. What an item raises is raised here, and those that have not begun are left out.
    """
    num_threads = min(torch.get_num_threads(), len(items))
    if num_threads <= 1:
        yield from map(compute, items)
        return
    is_inference = torch.is_inference_mode_enabled()  # which threads do not take over

    def compute_alone(item: Item) -> Result:
        with torch.inference_mode(is_inference):
            return compute(item)

    executor = ThreadPoolExecutor(num_threads, "deepen-compute", initializer=use_threads, initargs=(1,))
    try:
        yield from executor.map(compute_alone, items)
    finally:
        executor.shutdown(cancel_futures=True)
