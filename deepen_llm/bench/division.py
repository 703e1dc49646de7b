"""How the time of a step divides: the members' passes, those that reading as text adds, fusion, choice, the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from statistics import median
from typing import Any, final

from deepen_llm.bench.decode import NUM_PROMPTS, SENTENCES
from deepen_llm.config import SamplingParams
from deepen_llm.decoding.engine import Engine
from deepen_llm.decoding.projecting import EnsembleProjector
from deepen_llm.ensemble import Ensemble
from deepen_llm.fusion.frame import FusionFrame
from deepen_llm.fusion.words import WordWeigher
from deepen_llm.members.guarded import GuardedMember, GuardedPass

BATCHES = (1, NUM_PROMPTS)
PASSES, PEEKS, READING, FUSION, CHOICE, REST = PARTS = (
    "the members' passes",
    "reading's extra passes",
    "reading",
    "fusion",
    "choice and alignment",
    "rest",
)
TIMED: tuple[tuple[type, str, str], ...] = (
    (Engine, "_step", REST),
    (Engine, "_choose", CHOICE),
    (GuardedMember, "start_extend", PASSES),
    (GuardedMember, "start_extend_each", PASSES),
    (GuardedMember, "start_peek", PASSES),
    (GuardedPass, "result", PASSES),
    (EnsembleProjector, "project", READING),
    *((FusionFrame, name, FUSION) for name in ("read_main", "read_tokens", "fuse")),
    *((WordWeigher, name, FUSION) for name in ("complete", "share_of_beginnings", "weigh")),
)
"""Methods, and the part of a step that they are; what one takes within another is the inner one's."""


@dataclass(frozen=True)
class Division:
    """One measurement."""

    name: str
    num_prompts: int
    milliseconds: dict[str, float]
    """Of `PARTS`, a token of each prompt; medians."""


@final
class StepClock:
    """Counts the seconds of each part, of one thread."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._open: list[str] = []
        self._since_s = 0.0

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose time counts as a part's."""

        @wraps(function)
        def run(*args: Any, **named: Any) -> Any:
            self._note()
            # A pass that reading waits for is the reading's own.
            self._open.append(PEEKS if part == PASSES and READING in self._open else part)
            try:
                return function(*args, **named)
            finally:
                self._note()
                self._open.pop()

        return run

    def _note(self) -> None:
        """Give what has passed since the last time to the part that is open."""
        now_s = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now_s - self._since_s
        self._since_s = now_s

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Within, every method of `TIMED` is counted, of whatever ensemble."""
        with ExitStack() as stack:
            for owner, name, part in TIMED:
                own = getattr(owner, name)
                setattr(owner, name, self.timed(part, own))
                stack.callback(setattr, owner, name, own)
            yield


def measure_division(
    ensemble: Ensemble,
    *,
    num_tokens: int = 100,
    num_repetitions: int = 5,
    num_prompts: Sequence[int] = (1, NUM_PROMPTS),
) -> Iterator[Division]:
    """Where a step's time goes, for one prompt and for several at once; nothing else may use an ensemble meanwhile."""
    params = SamplingParams(max_new_tokens=num_tokens, ignore_eos=True)
    for num in num_prompts:
        prompts, found = list(SENTENCES[:num]), list[dict[str, float]]()
        ensemble.generate(prompts, params)
        for _ in range(num_repetitions):
            clock = StepClock()
            with clock.watch():
                answers = ensemble.generate(prompts, params)
            made = sum(answer.usage.completion_tokens for answer in answers)
            found.append({part: 1000 * seconds / made for part, seconds in clock.seconds.items()})
        name = f"{' + '.join(ensemble.member_names)}, {num} prompt{'s' * (num > 1)}"
        yield Division(name, num, {part: median(run[part] for run in found) for part in PARTS})
