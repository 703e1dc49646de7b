"""How many answers are taken on at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from deepen_llm.server.refusals import RefusedError

RETRY_AFTER_S = 1
"""When to ask again, as clients are told."""


@final
class Admission:
    """Counts the answers that run or wait, of all models together. For one event loop."""

    def __init__(self, max_running: int, max_waiting: int) -> None:
        """`max_running` of them can run at the same time, and so many more may wait."""
        self.max_running, self.max_waiting = max_running, max_waiting
        self.num_taken = 0
        self.is_draining = False
        """Whether nothing new is taken on, because the server ends."""

    @contextmanager
    def take(self, num_answers: int) -> Iterator[None]:
        """Take some on, until the context ends.

        Raises:
            RefusedError: There is no room for them, now (status 429) or ever; or the server ends (503).
        """
        most = self.max_running + self.max_waiting
        if self.is_draining:
            raise RefusedError("the server is ending: ask another one", status=503, code="draining")
        if num_answers > most:
            raise RefusedError(
                f"a request may ask for {most} answers at most, n for each prompt; got {num_answers}: send several",
                param="n",
            )
        if self.num_taken + num_answers > most:
            raise RefusedError(
                f"{self.num_taken} answers run or wait, and {most} may: ask again later",
                status=429,
                code="queue_full",
                headers={"Retry-After": str(RETRY_AFTER_S)},
            )
        self.num_taken += num_answers
        try:
            yield
        finally:
            self.num_taken -= num_answers
