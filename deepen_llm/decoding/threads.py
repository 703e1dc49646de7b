"""How many threads the engine's own computations use.

A small model's step is hundreds of operations of a few microseconds each. Handing part of one to a second thread takes
longer than doing it, and the more so where the caller's thread has workers of its own that hold the processor.
"""

from __future__ import annotations

from collections.abc import Iterable

from deepen_llm.members.guarded import GuardedMember

SMALL_BYTES = 32 << 20
"""Members with weights of at most this size, all of them on the CPU, run in one thread."""


def choose_num_threads(members: Iterable[GuardedMember]) -> int | None:
    """One where every member is small; None leaves it as it is."""
    is_small = all(guarded.device.type == "cpu" and guarded.member.weight_bytes <= SMALL_BYTES for guarded in members)
    return 1 if is_small else None
