"""Ctrl-C as a way to stop one thing and not the program."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self, final


@final
class Interrupts:
    """While it is entered, Ctrl-C ends what `run` runs, and is dropped everywhere else.

    The interpreter's own handler raises wherever the program happens to be: between two answers, or in the midst of
    tidying up after one.
    """

    def __init__(self) -> None:
        self._may_raise = False
        self._before: Any = None

    def __enter__(self) -> Self:
        # Where a shell lets the program ignore Ctrl-C it stays so, and handlers belong to the main thread.
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def run(self, work: Callable[[], None]) -> bool:
        """Do something that Ctrl-C ends; whether it came to its own end."""
        try:
            try:
                self._may_raise = True
                work()
            finally:
                self._may_raise = False
        except KeyboardInterrupt:  # also of the moment in which the work had just ended
            return False
        return True

    def _handle(self, signal_number: int, frame: FrameType | None) -> None:
        del signal_number, frame
        if self._may_raise:
            self._may_raise = False  # a second one must not hit what tidies up after the first
            raise KeyboardInterrupt
