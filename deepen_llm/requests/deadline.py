"""The moment by which an answer must be whole."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TypeVar, final

from deepen_llm.errors import MemberTimeoutError

Result = TypeVar("Result")


@final
class Deadline:
    """The end of the time that a request may take, which begins when this is made.

    Who waits for a member looks here, so that a member that hangs in a forward pass holds up nobody.
    """

    def __init__(self, timeout_s: float | None) -> None:
        """`timeout_s` None is a deadline that never comes."""
        self._timeout_s = timeout_s
        self._begin_s = time.monotonic()

    @property
    def remaining_s(self) -> float | None:
        """Seconds until then, 0 where it is over; None for one that never comes."""
        if self._timeout_s is None:
            return None
        # Longer waits than the greatest that locks take are as good as that one.
        return min(max(self._begin_s + self._timeout_s - time.monotonic(), 0.0), threading.TIMEOUT_MAX)

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return self.remaining_s == 0

    @property
    def error(self) -> MemberTimeoutError:
        """What a request fails with that was not done by then."""
        return MemberTimeoutError(
            f"an answer must be whole within its timeout of {self._timeout_s:g} s; this one was not, and its work was "
            "stopped: raise the timeout, or ask for fewer tokens"
        )

    def result_of(self, future: Future[Result]) -> Result:
        """The future's result, waited for until then; raises the future's own error too.

        Raises:
            MemberTimeoutError: It was not there in time.
        """
        try:
            return future.result(self.remaining_s)
        except TimeoutError:
            if future.done():  # in time after all, or with an error that is itself a TimeoutError
                return future.result()
            raise self.error from None
