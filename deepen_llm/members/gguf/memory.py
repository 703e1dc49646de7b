"""How much memory is free, and how many tokens of keys and values go into some of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import final

from deepen_llm.errors import MemberError
from deepen_llm.members.gguf.header import Header
from deepen_llm.members.gguf.settings import GGUFConfig

NUM_ROWS = 8
"""Rows of the whole context for which there is a place by default."""
MOST_TOKENS = 32_768
"""Places by default, at the most."""
SHARE = 4
"""Of the free memory the cache takes this part by default, at the most."""
LEAST_TOKENS = 512
BITS = {"f32": 32.0, "f16": 16.0, "bf16": 16.0, "q8_0": 8.5, "q5_1": 6.0, "q5_0": 5.5, "q4_1": 5.0, "q4_0": 4.5}
"""What one number takes, by format, the scales of blocks included."""
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


@final
class CacheSize:
    """How large the cache of a member is: `context`, the most tokens of one row, and `num_tokens`, of all rows."""

    def __init__(self, header: Header, config: GGUFConfig, name: str, free_bytes: int | None = None) -> None:
        """Find it out from what was asked for, the model and the memory that is free.

        Args:
            header: Of the model's file.
            config: What was asked for.
            name: What errors call the member.
            free_bytes: Free memory; None where that cannot be found out, or where the cache lies on a GPU.

        Raises:
            MemberError: A cache larger than memory, or rows longer than it.
        """
        self.bytes_per_token = count_bytes_per_token(header, config.cache_type)
        own = int(header.number("context_length", 0)) or MOST_TOKENS
        self.context = config.context or own
        room = MOST_TOKENS
        if free_bytes is not None and self.bytes_per_token:
            room = min(room, free_bytes // SHARE // self.bytes_per_token)
        least = config.context or LEAST_TOKENS
        self.num_tokens = config.cache_tokens or max(min(NUM_ROWS * self.context, room), least)
        if config.context is not None and config.context > self.num_tokens:
            raise MemberError(
                f"member {name!r}: cache_tokens must be at least context={config.context:,}; got "
                f"{self.num_tokens:,}: raise it, or lower context"
            )
        self.context = min(self.context, self.num_tokens)
        self._check(name, free_bytes)

    def _check(self, name: str, free_bytes: int | None) -> None:
        """Refuse what the system would end the process for."""
        needed = self.num_tokens * self.bytes_per_token
        if free_bytes is not None and needed > free_bytes:
            raise MemberError(
                f"member {name!r}: the keys and values of {self.num_tokens:,} tokens take {needed / 1e9:.1f} GB "
                f"({self.bytes_per_token:,} bytes each), and {free_bytes / 1e9:.1f} GB of memory are free: give "
                f"context or cache_tokens of at most {free_bytes // self.bytes_per_token:,}, or cache_type='q8_0'"
            )


def count_bytes_per_token(header: Header, cache_type: str) -> int:
    """Memory of one token's keys and values in all layers; 0 for a model without attention."""
    num_layers = int(header.number("block_count", 0))
    heads = header.number("attention.head_count_kv", header.number("attention.head_count", 0))
    per_layer = list(heads) if isinstance(heads, tuple) else [int(heads)] * num_layers
    num_heads = _largest(header.number("attention.head_count", 0))
    size = int(header.number("embedding_length", 0)) // max(num_heads, 1)
    both = int(header.number("attention.key_length", size)) + int(header.number("attention.value_length", size))
    return round(sum(per_layer) * both * BITS[cache_type] / 8)


def find_free_bytes() -> int | None:
    """Memory that can be taken, within what a container allows; None where the system does not tell."""
    found = [free for free in (_read_meminfo(), _read_cgroup()) if free is not None]
    return min(found) if found else None


def _largest(value: int | tuple[int, ...]) -> int:
    return max(value, default=0) if isinstance(value, tuple) else int(value)


def _read_meminfo() -> int | None:
    if MEMINFO.exists():
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines() if ":" in line)
        if "MemAvailable" in lines:
            return int(lines["MemAvailable"].split()[0]) * 1024
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # macOS tells how much there is at all
    return None


def _read_cgroup() -> int | None:
    limit, used = CGROUP / "memory.max", CGROUP / "memory.current"
    if not (limit.exists() and used.exists()):
        return None
    most = limit.read_text().strip()
    return int(most) - int(used.read_text()) if most.isdigit() else None
