"""A thread of its own for llama.cpp's passes, so that other members run at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import final

import torch
from torch import Tensor

from deepen_llm.members.base import Pending
from deepen_llm.members.transformers.rows import Extended


@final
class Worker:
    """Runs passes one after the other, in the order in which they were started. llama.cpp lets go of the GIL."""

    def __init__(self, name: str) -> None:
        """`name` is what the thread is called."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._last: Future[Extended] | None = None
        self.is_computing = threading.Event()
        """To be set when a pass comes to where it needs Python no longer."""

    def start(self, run: Callable[[], Extended]) -> Pending:
        """Begin a pass. Returns once it computes: what the caller does next would keep it from Python's lock."""
        self.wait()
        self.is_computing.clear()
        self._last = self._executor.submit(_infer, run)
        self._last.add_done_callback(lambda _: self.is_computing.set())
        self.is_computing.wait()
        return Running(self._last)

    def wait(self) -> None:
        """Until no pass is under way: whatever changes the cache waits for that."""
        if self._last is not None:
            self._last.exception()

    def close(self) -> None:
        """End the thread, after the passes that were started."""
        self._executor.shutdown()


@final
class Running(Pending):
    """A pass that is under way."""

    def __init__(self, future: Future[Extended]) -> None:
        self._future = future

    def result(self) -> Tensor:
        """Wait for the logits; raises what went wrong."""
        return self._future.result().logits

    @property
    def measured(self) -> dict[int, Tensor]:
        """See `Pending.measured`."""
        return self._future.result().measured


def _infer(run: Callable[[], Extended]) -> Extended:
    with torch.inference_mode():
        return run()
