"""An ensemble that answers many requests side by side, and remembers what it answered."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import TYPE_CHECKING, final

from deepen_llm import __version__
from deepen_llm.evaluation.request_cache import RequestCache, make_key
from deepen_llm.evaluation.requests import Answer, Request, read_answer, write_answer

if TYPE_CHECKING:
    from deepen_llm.ensemble import Ensemble

WAITING_PER_RUNNING = 2
"""Requests handed to the ensemble, for each that it can run: the next ones are ready when one is done."""


@final
class Runner:
    """Asks an ensemble what is not in the cache yet, as many requests at once as it runs."""

    def __init__(
        self, ensemble: Ensemble, cache: RequestCache, on_answered: Callable[[int], None] | None = None
    ) -> None:
        """Wrap an open ensemble.

        Args:
            ensemble: Who answers.
            cache: What was answered before, under the ensemble's identity.
            on_answered: Told the number of requests each time that some are answered.
        """
        self.ensemble = ensemble
        self.answers: list[Answer] = []
        """Every answer so far."""
        self._cache = cache
        self._identity = {**ensemble.identity, "version": __version__}
        self._report = on_answered or _ignore
        self._last = 0.0

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """The answers, in the order of the requests. An interruption or an error keeps those that are there.

        Raises:
            DeepenError: A request that cannot be run, or a member that failed.
            CacheError: The cache cannot be written.
        """
        keys = [make_key(self._identity, request.describe()) for request in requests]
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in self._cache}
        times_asked = Counter(keys)
        self._report(sum(times for key, times in times_asked.items() if key not in missing))
        self._ask(missing, lambda key: self._report(times_asked[key]))
        answers = [read_answer(self._cache.get(key)) for key in keys]
        self.answers += answers
        return answers

    def _ask(self, missing: dict[str, Request], report: Callable[[str], None]) -> None:
        """Put the answers into the cache as they come."""
        self._last = time.perf_counter()
        pool = ThreadPoolExecutor(WAITING_PER_RUNNING * self.ensemble.config.max_batch_size)
        futures = {pool.submit(request.ask, self.ensemble): key for key, request in missing.items()}
        try:
            for future in as_completed(futures):
                self._keep(futures[future], future)
                report(futures[future])
        finally:
            # After an interruption or an error, what runs is finished and kept, and what waits is given up.
            pool.shutdown(wait=True, cancel_futures=True)
            for future, key in futures.items():
                if not future.cancelled() and future.exception() is None and key not in self._cache:
                    self._keep(key, future)

    def _keep(self, key: str, future: Future[Answer]) -> None:
        """Write one answer down, with the time since the one before."""
        answer, now = future.result(), time.perf_counter()
        self._cache.add(key, write_answer(replace(answer, seconds=now - self._last)))
        self._last = now


def _ignore(number: int) -> None:
    """Told of progress where nobody asked to be."""
