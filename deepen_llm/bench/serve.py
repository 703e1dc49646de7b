"""What a server adds to its engine: beside the same ensemble used directly, with the same requests in turns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median, quantiles
from typing import final

from deepen_llm.bench.decode import SENTENCES, Finding
from deepen_llm.bench.serve_users import Door, Pace, at_engine, at_server, use
from deepen_llm.bench.timing import Spread, ratios, take_turns
from deepen_llm.ensemble import Ensemble
from deepen_llm.errors import MissingDependencyError

ENGINE, SERVER = "engine", "server"
NUM_REQUESTS = 2
"""How many requests each user asks, one after the other."""


@final
class ServeBenchmark:
    """Drives a server and the ensemble that it serves. All answers are greedy and of fixed length."""

    def __init__(
        self, ensemble: Ensemble, address: str, *, num_users: int = 32, num_tokens: int = 64, num_repetitions: int = 5
    ) -> None:
        """Take the same ensemble twice.

        Args:
            ensemble: In this process.
            address: That of a server in another one, without a path.
            num_users: How many ask at the same time.
            num_tokens: Of each answer.
            num_repetitions: Runs of each case.

        Raises:
            MissingDependencyError: There is no HTTP client.
        """
        try:
            import httpx  # noqa: F401
        except ImportError as missing:
            raise MissingDependencyError(
                f"deepen bench serve needs more: pip install 'deepen-llm[server]' ({missing})"
            ) from missing
        self._ensemble, self._address = ensemble, address
        self._num_users, self._num_tokens, self._num_repetitions = num_users, num_tokens, num_repetitions
        self._paces: dict[str, list[Pace]] = {}

    def run(self) -> Iterator[Finding]:
        """Every finding, as soon as it is there."""
        yield self.measure_alone()
        yield self.measure_many(streams=True)
        yield self.measure_many(streams=False)

    def measure_alone(self) -> Finding:
        """Milliseconds that the server adds between two tokens of the only user's stream."""
        times = take_turns(self._cases(1, streams=True), 2 * self._num_repetitions)
        added = [1000 * (server - engine) for server, engine in zip(times[SERVER], times[ENGINE], strict=True)]
        return Finding(
            "milliseconds that the server adds to a token, 1 user", Spread(tuple(added)), 2.0, "at most", self._told()
        )

    def measure_many(self, *, streams: bool) -> Finding:
        """The server's tokens a second over the engine's."""
        times = take_turns(self._cases(self._num_users, streams=streams), self._num_repetitions)
        value = ratios(times, (ENGINE,), (SERVER,))
        what = "streams" if streams else "whole answers"
        seconds = ", ".join(f"{name} {1 / median(times[name]):.0f}" for name in (ENGINE, SERVER))
        return Finding(
            f"of the engine's tokens a second, {self._num_users} users, {what}",
            value,
            0.9,
            "at least",
            self._told() if streams else {},
            f"tokens a second: {seconds}",
        )

    def _cases(self, num_users: int, *, streams: bool) -> dict[str, Callable[[], float]]:
        doors: dict[str, Door] = {
            ENGINE: partial(at_engine, self._ensemble, streams=streams),
            SERVER: partial(at_server, self._address, streams=streams),
        }
        self._paces = {name: [] for name in doors}
        return {name: partial(self._measure, name, door, num_users) for name, door in doors.items()}

    def _measure(self, name: str, door: Door, num_users: int) -> float:
        """Seconds: between tokens at the median where one user asks, else a token of all users."""
        prompts = [
            [SENTENCES[(user + request) % len(SENTENCES)] for request in range(NUM_REQUESTS)]
            for user in range(num_users)
        ]
        pace = asyncio.run(use(door, prompts, self._num_tokens))
        self._paces[name].append(pace)
        return median(pace.between_s) if num_users == 1 else pace.token_s

    def _told(self) -> dict[str, float]:
        """Milliseconds to the first token and between tokens, at the median and 99%, all recorded runs together."""
        told: dict[str, float] = {}
        for name, paces in self._paces.items():
            for what, times in (
                ("to the first token", [one for pace in paces[1:] for one in pace.first_s]),
                ("between tokens", [one for pace in paces[1:] for one in pace.between_s]),
            ):
                told[f"{name} {what}, median"] = 1000 * median(times)
                told[f"{name} {what}, 99%"] = 1000 * quantiles(times, n=100, method="inclusive")[98]
        return told
