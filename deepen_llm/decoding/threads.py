"""How many threads the engine's own computations use.

A small model's step is hundreds of operations of a few microseconds each. Handing part of one to a second thread takes
longer than doing it, and the more so where the caller's thread has workers of its own that hold the processor.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import torch

from deepen_llm.members.guarded import GuardedMember

SMALL_BYTES = 32 << 20
"""Members with weights of at most this size, all of them on the CPU, run in one thread."""


def choose_num_threads(members: Iterable[GuardedMember]) -> int | None:
    """One where every member is small; None leaves it as it is."""
    is_small = all(guarded.device.type == "cpu" and guarded.member.weight_bytes <= SMALL_BYTES for guarded in members)
    return 1 if is_small else None


def use_threads(num_threads: int) -> None:
    """Have torch use this many threads for what the calling thread computes, and leave every other thread as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    # torch keeps two numbers: the calling thread's own, and one that threads begin with. The second is put back.
    restore = threading.Thread(target=torch.set_num_threads, args=(before,))
    restore.start()
    restore.join()
