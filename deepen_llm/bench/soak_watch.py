"""What a process holds while it runs for long: memory, threads, open files."""

from __future__ import annotations

import gc
import threading
import time
from dataclasses import dataclass, field
from statistics import linear_regression, median
from typing import NamedTuple, final

import psutil

MB = 1024 * 1024
MOST_SAMPLES = 2_000
WARM_SHARE = 1 / 3
"""Of the time, in which caches fill and allocators find their size: not counted."""
MIN_S = 100.0
"""Of what counts: in less time nobody can tell growth from warming up."""
MOST_GROWTH = 0.05
"""Of the memory that was held in the middle: more, by the slope over the time that counts, is a leak."""


class Sample(NamedTuple):
    """One look at the process."""

    at_s: float
    memory_mb: float
    num_threads: int
    num_files: int


@dataclass(frozen=True)
class Holding:
    """What was held over time, and whether that stayed the same."""

    before: Sample
    after: Sample
    """Once everything that was begun had ended."""
    most_memory_mb: float
    slope_mb_per_hour: float | None
    """Of the memory after the warm-up; None for a run too short to tell."""
    growth_mb: float
    """The slope times the time it was taken over."""
    samples: tuple[Sample, ...] = field(repr=False)

    def describe_growth(self) -> list[str]:
        """What grew that should not have; empty where nothing did."""
        found = []
        if self.growth_mb > MOST_GROWTH * self.most_memory_mb:
            found.append(f"memory grew by {self.growth_mb:.0f} MB after the warm-up")
        if self.after.num_threads > self.before.num_threads:
            found.append(f"{self.before.num_threads} threads became {self.after.num_threads}")
        if self.after.num_files > self.before.num_files:
            found.append(f"{self.before.num_files} open files became {self.after.num_files}")
        return found


@final
class Watch:
    """Looks at the process again and again, in a thread of its own. As many samples for an hour as for a minute."""

    def __init__(self, seconds: float) -> None:
        """Begin to watch what takes so long."""
        self._process = psutil.Process()
        self._begin_s = time.monotonic()
        self._before = self._look()
        self._samples: list[Sample] = []
        self._stopped = threading.Event()
        self._interval_s = max(seconds / MOST_SAMPLES, 0.2)
        self._thread = threading.Thread(target=self._run, name="deepen-soak-watch", daemon=True)
        self._thread.start()

    def stop(self) -> Holding:
        """End watching, and say what was held."""
        self._stopped.set()
        self._thread.join()
        gc.collect()
        slope, growth = measure_slope(self._samples)
        most = max((sample.memory_mb for sample in self._samples), default=self._before.memory_mb)
        return Holding(self._before, self._look(), most, slope, growth, tuple(_thin(self._samples)))

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            self._samples.append(self._look())

    def _look(self) -> Sample:
        with self._process.oneshot():
            memory = self._process.memory_info().rss / MB
            num_files = self._process.num_fds() if psutil.POSIX else self._process.num_handles()
            return Sample(time.monotonic() - self._begin_s, memory, self._process.num_threads(), num_files)


def measure_slope(samples: list[Sample]) -> tuple[float | None, float]:
    """MB per hour after the warm-up, and what that comes to over the time; None and 0 for too short a time."""
    counted = samples[int(len(samples) * WARM_SHARE) :]
    if not counted or counted[-1].at_s - counted[0].at_s < MIN_S:
        return None, 0.0
    slope = linear_regression([s.at_s for s in counted], [s.memory_mb for s in counted]).slope
    return slope * 3600, slope * (counted[-1].at_s - counted[0].at_s)


def _thin(samples: list[Sample], most: int = 60) -> list[Sample]:
    """About so many of the samples, each the median in memory of its neighbours, for a report."""
    size = max(1, -(-len(samples) // most))
    groups = [samples[begin : begin + size] for begin in range(0, len(samples), size)]
    return [group[len(group) // 2]._replace(memory_mb=median(s.memory_mb for s in group)) for group in groups]
