"""From the engine's thread to an event loop: what several streams get in one step wakes the loop once."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Any, ClassVar, final
from weakref import WeakKeyDictionary


@final
class Mailbox:
    """What other threads put into the queues of one event loop.

    To wake a loop is a system call that gives up the interpreter's lock: an engine that did so for every piece of every
    answer would wait for the lock each time.
    """

    _of_loops: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, Mailbox]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._posted: deque[tuple[asyncio.Queue[Any], Any]] = deque()
        self._is_called = False
        """Whether the loop will come for what was posted, and has not yet begun to."""

    @classmethod
    def of_running_loop(cls) -> Mailbox:
        """The mailbox of the loop that runs, one for all its streams."""
        return cls._of_loops.setdefault(asyncio.get_running_loop(), cls())

    def post(self, loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[Any], item: Any) -> None:
        """Put an item into a queue of the mailbox's loop, from any thread; one thread's items keep their order."""
        self._posted.append((queue, item))
        if not self._is_called:
            self._is_called = True
            # A loop that is closed has no consumer left, so nobody misses the item.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._is_called = False  # first: what is posted from here on calls again, or is delivered now
        while self._posted:
            queue, item = self._posted.popleft()
            queue.put_nowait(item)
