"""A soak: an ensemble under a mixed load for as long as one likes, with members that break, and what is left then."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import final

from deepen_llm.bench.decode import SENTENCES
from deepen_llm.bench.soak_cases import TIMEOUT_S, WrongAnswerError, ask_alone
from deepen_llm.bench.soak_faults import RandomFaults
from deepen_llm.bench.soak_load import AsyncWay, Load, Way
from deepen_llm.bench.soak_watch import Holding, Watch
from deepen_llm.config import EnsembleConfig, SamplingParams
from deepen_llm.ensemble import Ensemble
from deepen_llm.errors import DeepenError, MemberError, NumericalError
from deepen_llm.members.base import Member
from deepen_llm.testing.faulty import FaultyMember

MOST_PROBLEMS = 20
"""So many are kept word for word; all are counted."""
TASKS_PER_LOOP = 4
GRACE_S = 30.0
NUM_AT_ONCE = 16
"""Chats at the same time before the soak begins."""
Tell = Callable[[int, float], None]


@final
@dataclass(frozen=True)
class SoakReport:
    """What came of it."""

    seconds: float
    num_requests: dict[str, int]
    """By how they ended; "failed" are those that a member was made to fail under."""
    num_compared: int
    """Greedy answers that were compared with those given alone."""
    num_ties: int
    """Of these, those that parted at tokens that were equally good: a batch may turn them round. The rest are equal."""
    num_faults: dict[str, int]
    """What members were made to do, by operation."""
    errors: dict[str, int]
    """The errors that requests failed with, by class."""
    num_running: int
    """Requests that ran when all had ended."""
    num_open: dict[str, int]
    """Rows that were left in each member."""
    num_hung: int
    """Threads that never came back."""
    holding: Holding
    problems: tuple[str, ...]
    """The first of what went wrong with requests."""
    num_problems: int = field(default=0)

    @property
    def total(self) -> int:
        """Requests in all."""
        return sum(self.num_requests.values())

    @property
    def failures(self) -> list[str]:
        """Everything that is wrong, in words; empty where all is well."""
        found = list(self.problems)
        if self.num_problems > len(self.problems):
            found.append(f"{self.num_problems - len(self.problems)} more of that kind")
        if self.num_hung:
            found.append(f"{self.num_hung} threads never came back")
        if self.num_running:
            found.append(f"{self.num_running} requests still run")
        found += [f"{number} rows are left in {name}" for name, number in self.num_open.items() if number]
        return found + self.holding.describe_growth()


KEPT_BYTES = 32 << 20
"""What rows of requests that are done may take."""


@final
class Soak:
    """An ensemble whose members break at random, and users who ask it at random."""

    def __init__(
        self,
        members: Sequence[Member],
        config: EnsembleConfig,
        *,
        num_threads: int = 8,
        fault_share: float = 5e-4,
        seed: int = 0,
        prompts: Sequence[str] = SENTENCES,
    ) -> None:
        """Ask every question alone first, while the members are sound.

        Args:
            members: They are wrapped, and stay open.
            config: How they are fused.
            num_threads: Half of the users sit in threads, the others in event loops, several in each.
            fault_share: The share of what members are asked for at which they fail, from 0 to 1.
            seed: Of what is asked and what fails. The order in which threads run is not repeated.
            prompts: What is asked.

        Raises:
            DeepenError: A question cannot be answered even alone.
        """
        self._members = [FaultyMember(member) for member in members]
        # Full before the warm-up is over: memory that grows after it is not memory that is kept on purpose.
        kept_bytes = min(config.prefix_cache_bytes, KEPT_BYTES)
        self._ensemble = Ensemble(self._members, config.replace(prefix_cache_bytes=kept_bytes))
        self._num_threads, self._fault_share, self._seed = num_threads, fault_share, seed
        self._cases = ask_alone(self._ensemble, prompts)
        self._lock = threading.Lock()
        self._ends: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._problems: list[str] = []
        self._num_problems = 0
        self._end_s = 0.0

    def run(self, seconds: float, tell: Tell | None = None) -> SoakReport:
        """Ask for so long. `tell` hears every second how many requests have ended, and after how many seconds."""
        faults = [RandomFaults(self._fault_share, self._seed + at) for at in range(len(self._members))]
        self._warm_up()
        begin_s = time.monotonic()
        watch = Watch(seconds)
        for member, choose in zip(self._members, faults, strict=True):
            member.choose = choose
        self._end_s = begin_s + seconds
        loads = [Load(self._ensemble, self._cases, self._seed + 1000 * number) for number in range(self._num_threads)]
        users = [self._start_user(number, load) for number, load in enumerate(loads)]
        while (left := self._end_s - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
            if tell is not None:
                tell(sum(self._ends.values()), time.monotonic() - begin_s)
        num_hung = self._join(users)
        for member in self._members:
            member.choose = lambda _: None
        self._wait_until_idle()
        return SoakReport(
            seconds=time.monotonic() - begin_s,
            num_requests=dict(sorted(self._ends.items())),
            num_compared=sum(load.num_compared for load in loads),
            num_ties=sum(load.num_ties for load in loads),
            num_faults=dict(sorted(sum((one.num_made for one in faults), Counter()).items())),
            errors=dict(sorted(self._errors.items())),
            num_running=self._ensemble.num_running,
            num_open={member.name: member.num_open for member in self._members},
            num_hung=num_hung,
            holding=watch.stop(),
            problems=tuple(self._problems),
            num_problems=self._num_problems,
        )

    def _warm_up(self) -> None:
        """Have what starts on demand, such as the processes that render chats, started: it is no growth."""
        if self._ensemble.has_chat_template:
            message, params = {"role": "user", "content": "Hello!"}, SamplingParams(max_new_tokens=1)
            with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
                list(pool.map(lambda _: self._ensemble.chat([message], params), range(NUM_AT_ONCE)))

    def _start_user(self, number: int, load: Load) -> threading.Thread:
        run = partial(asyncio.run, self._ask_in_loop(load)) if number % 2 else partial(self._ask_in_thread, load)
        user = threading.Thread(target=run, name=f"deepen-soak-{number}", daemon=True)
        user.start()
        return user

    def _ask_in_thread(self, load: Load) -> None:
        """One request after the other, until the time is over."""
        ways = load.ways
        while time.monotonic() < self._end_s:
            self._note(ways[load.choose(sorted(ways))])

    async def _ask_in_loop(self, load: Load) -> None:
        """Several users in one event loop, until the time is over."""
        ways = load.async_ways

        async def ask() -> None:
            while time.monotonic() < self._end_s:
                await self._anote(ways[load.choose(sorted(ways))])

        await asyncio.gather(*(ask() for _ in range(TASKS_PER_LOOP)))

    def _note(self, way: Way) -> None:
        try:
            self._count(way())
        except Exception as error:
            self._judge(error)

    async def _anote(self, way: AsyncWay) -> None:
        try:
            self._count(await way())
        except Exception as error:
            self._judge(error)

    def _judge(self, error: Exception) -> None:
        """Errors of members that were made to fail, and that name them, are as they should be; all others are not."""
        with self._lock:
            self._errors[type(error).__name__] += 1
        is_named = any(repr(member.name) in str(error) for member in self._members)
        if isinstance(error, (MemberError, NumericalError)) and is_named and self._fault_share:
            self._count("failed")
            return
        self._count("wrong" if isinstance(error, (WrongAnswerError, DeepenError)) else "error without a name")
        with self._lock:
            self._num_problems += 1
            if len(self._problems) < MOST_PROBLEMS:
                self._problems.append(f"{type(error).__name__}: {error}"[:500])

    def _count(self, end: str) -> None:
        with self._lock:
            self._ends[end] += 1

    def _join(self, users: Sequence[threading.Thread]) -> int:
        """Wait for the users; how many never came back."""
        end_s = time.monotonic() + TIMEOUT_S + GRACE_S
        for user in users:
            user.join(max(0.0, end_s - time.monotonic()))
        return sum(user.is_alive() for user in users)

    def _wait_until_idle(self) -> None:
        """What was abandoned ends at the next step."""
        gc.collect()
        end_s = time.monotonic() + GRACE_S
        while time.monotonic() < end_s:
            if not self._ensemble.num_running and not any(member.num_open for member in self._members):
                return
            time.sleep(0.01)

    def close(self) -> None:
        """Stop the engine and close the members."""
        self._ensemble.close()
