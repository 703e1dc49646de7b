"""What members in Ray actors cost: milliseconds and bytes a step, beside the same members in one process.

python -m tests.members.ray.measure_steps [FOLDER OF A MODEL ...]

A main model and one or two others, the bundled ones by default; the modes take turns, so that what else the machine
does falls on all of them.
"""

from __future__ import annotations

import os
import pickle
import signal
import statistics
import sys
import time

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from deepen_llm.config import EnsembleConfig, FusionConfig, MemberConfig, SamplingParams
from deepen_llm.ensemble import Ensemble
from deepen_llm.members.borrowed import BorrowedMember
from deepen_llm.members.ray.journal import Journal
from deepen_llm.starter import model_paths

NUM_TOKENS = 32
ROUNDS = 7
PROMPT = "Once upon a time there was a small"
PARAMS = SamplingParams(max_new_tokens=NUM_TOKENS, temperature=0, ignore_eos=True)


def make_ensemble(members, method="text"):
    config = EnsembleConfig(
        members=tuple(MemberConfig(model=member.name) for member in members), fusion=FusionConfig(method=method)
    )
    return Ensemble([BorrowedMember(member) for member in members], config)


def time_step(members, num_rows):
    """Milliseconds a step of all rows, prompts included."""
    with make_ensemble(members) as ensemble:
        begin = time.perf_counter()
        ensemble.generate([PROMPT] * num_rows, PARAMS)
        return (time.perf_counter() - begin) * 1000 / NUM_TOKENS


class Meter:
    """Counts the bytes of all passes, as they are pickled."""

    def __init__(self):
        self.asked, self.told = [], []
        self._begin, self._settle = Journal.begin, Journal.settle
        Journal.begin = lambda *given, **named: self._note(self._begin(*given, **named))
        Journal.settle = lambda journal, entry, told: (
            self.told.append(len(pickle.dumps(told, protocol=5))),
            self._settle(journal, entry, told),
        )

    def _note(self, entry):
        self.asked.append(len(pickle.dumps(entry.asked, protocol=5)))
        return entry

    def stop(self):
        Journal.begin, Journal.settle = self._begin, self._settle


def show(name, times):
    print(f"{name:34} median {statistics.median(times):7.1f} ms a step   least {min(times):7.1f}")


def measure_steps(near, far):
    for num_others in range(1, len(near)):
        modes = {"in one process": near[: num_others + 1], "in actors": [near[0], *far[:num_others]]}
        for num_rows in (1, 8):
            times = {mode: [] for mode in modes}
            for _ in range(ROUNDS):
                for mode, members in modes.items():
                    times[mode].append(time_step(members, num_rows))
            for mode, found in times.items():
                show(f"{num_others} other(s), {num_rows} row(s), {mode}", found)


def measure_bytes(near, far):
    for num_rows in (1, 8):
        meter = Meter()
        time_step([near[0], far[0]], num_rows)
        meter.stop()
        told, asked = sum(meter.told) / NUM_TOKENS, sum(meter.asked) / NUM_TOKENS
        most = max(meter.told)
        print(f"{num_rows} row(s): {told:,.0f} bytes a step come back, {asked:,.0f} go; a pass takes {most:,} at most")


def measure_recovery(member):
    rows = {member.open(): member.vocabulary.encode(PROMPT) for _ in range(8)}
    member.extend(rows)
    found = member._host._actor.__ray_call__.remote(lambda actor: os.getpid())
    os.kill(member._connection.ray.get(found), signal.SIGKILL)
    begin = time.perf_counter()
    member.extend({row: [5] for row in rows})
    print(f"an actor killed with 8 rows: the next pass is answered after {time.perf_counter() - begin:.1f} s")


def main(paths):
    near = [MemberConfig(model=path).load() for path in paths]
    begin = time.perf_counter()
    far = [MemberConfig(model=path, device="ray").load() for path in paths[1:]]
    print(
        f"{len(far)} actors and, where none runs, a cluster, one after the other: {time.perf_counter() - begin:.1f} s"
    )
    measure_steps(near, far)
    measure_bytes(near, far)
    measure_recovery(far[0])
    for member in (*near, *far):
        member.close()


if __name__ == "__main__":
    main(sys.argv[1:] or [str(path) for path in model_paths()])
