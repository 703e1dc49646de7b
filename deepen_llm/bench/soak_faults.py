"""Members that break now and then, in every way that can be noticed."""

from __future__ import annotations

import math
from collections import Counter
from random import Random
from typing import final

import torch

from deepen_llm.testing.faulty import Fault, Operation, changing, raising, raising_after, waiting

SLOW_S = 0.05


class Broken(BaseException):
    """What is no `Exception`, as libraries in other languages raise it."""


def make_faults(operation: Operation) -> dict[str, Fault]:
    """Everything that may go wrong at an operation, by name. Each is noticed or does no harm: no answer may differ."""
    errors: tuple[BaseException, ...] = (
        RuntimeError("made to fail"),
        MemoryError("made to fail"),
        TimeoutError("made to fail"),
        OSError(5, "made to fail"),
        SystemExit(1),
        KeyboardInterrupt(),
        Broken("made to fail"),
    )
    # What is released late is not released: a fault before it would be a leak of our own.
    fail = raising_after if operation in ("release", "result") else raising
    faults = {type(error).__name__: fail(error) for error in errors} | {"slow": waiting(SLOW_S)}
    if operation == "result":
        faults |= {
            "NaN": changing(lambda logits: torch.full_like(logits, math.nan)),
            "only -infinity": changing(lambda logits: torch.full_like(logits, -math.inf)),
            "too few rows": changing(lambda logits: logits[1:]),
            "too many rows": changing(lambda logits: torch.cat([logits, logits])),
            "a token too few": changing(lambda logits: logits[:, 1:]),
            "integers": changing(lambda logits: logits.long()),
            "nothing": changing(lambda _: None),
        }
    return faults


@final
class RandomFaults:
    """For `FaultyMember.choose`: a fault at a share of the operations. Called from one thread."""

    def __init__(self, share: float, seed: int) -> None:
        """`share` of the operations, from 0 to 1, fail; the same ones for the same seed and the same calls."""
        self._share, self._random = share, Random(seed)  # noqa: S311 - nothing secret
        self._faults: dict[Operation, dict[str, Fault]] = {}
        self.num_made: Counter[str] = Counter()
        """How often each was made, by operation and name."""

    def __call__(self, operation: Operation) -> Fault | None:
        """The fault for this operation; mostly none."""
        if self._random.random() >= self._share:
            return None
        faults = self._faults.setdefault(operation, make_faults(operation))
        name = self._random.choice(sorted(faults))
        self.num_made[f"{operation}: {name}"] += 1
        return faults[name]
