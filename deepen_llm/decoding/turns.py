"""Whose turn it is: several engines over the same members step one after another."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType
from typing import final


@final
class Turns:
    """A lock that is handed on in the order in which it was asked for, so that no engine waits longer than a step each.

    `threading.Lock` makes no such promise: an engine that steps without a pause would take it again and again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_taken = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if not self._is_taken:
                self._is_taken = True
                return
            own = threading.Lock()
            own.acquire()
            self._waiting.append(own)
        own.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_taken = False
