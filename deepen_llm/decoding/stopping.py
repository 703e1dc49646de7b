"""Stop strings over streamed text: they may span tokens, and no part of one is ever released."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final


@final
class StopMatcher:
    """Releases text up to the first stop string and holds back what may be the beginning of one."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self._num_exempt = 0
        """Characters of the held text within which no stop string counts."""
        self.is_matched = False

    def push(self, text: str, *, is_too_early: bool = False) -> str:
        """Add text and return what can be released for good. After a match nothing more is released.

        A stop string that ends in text for which it `is_too_early` is text like any other.
        """
        if self.is_matched or not self._stop:
            return "" if self.is_matched else text
        self._held += text
        if is_too_early:
            self._num_exempt = len(self._held)
        begin = min((at for stop in self._stop if (at := self._find(stop)) >= 0), default=None)
        if begin is not None:
            self.is_matched = True
            return self._release(begin)
        return self._release(len(self._held) - self._num_doubtful())

    def flush(self) -> str:
        """Release what is held at the end of the answer: no stop string can follow any more."""
        return "" if self.is_matched else self._release(len(self._held))

    def _release(self, num_chars: int) -> str:
        released, self._held = self._held[:num_chars], self._held[num_chars:]
        self._num_exempt = max(0, self._num_exempt - num_chars)
        return released

    def _find(self, stop: str) -> int:
        """Where a stop string begins that ends behind what is exempt; -1 where there is none."""
        return self._held.find(stop, max(0, self._num_exempt - len(stop) + 1))

    def _num_doubtful(self) -> int:
        """Length of the longest end of the held text that begins some stop string."""
        longest = min(len(self._held), max(map(len, self._stop)) - 1)
        for length in range(longest, 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stop):
                return length
        return 0
