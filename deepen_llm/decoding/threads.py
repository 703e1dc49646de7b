"""How many threads the engine's own computations use.

A small model's step is hundreds of operations of a few microseconds each. Handing part of one to a second thread takes
longer than doing it, and the more so where the caller's thread has workers of its own that hold the processor.

Members that compute in threads of their own run at the same time as those that torch computes. Threads of both kinds
wait busily for each other, and so take the processor from those that they wait for where there are more of them than
there are cores.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from deepen_llm.members.guarded import GuardedMember

SMALL_BYTES = 32 << 20
"""Members with weights of at most this size, all of them on the CPU, run in one thread."""


def are_small(members: Sequence[GuardedMember]) -> bool:
    """Whether every member is small, and on the CPU."""
    return all(one.device.type == "cpu" and one.member.weight_bytes <= SMALL_BYTES for one in members)


def choose_num_threads(members: Sequence[GuardedMember]) -> int | None:
    """One where every member is small, torch's share where others compute beside it; None leaves it as it is."""
    if are_small(members):
        return 1
    on_cpu = [guarded.member for guarded in members if guarded.device.type == "cpu"]
    num_beside = sum(member.computes_beside for member in on_cpu)
    return max(torch.get_num_threads() // (1 + num_beside), 1) if num_beside else None
