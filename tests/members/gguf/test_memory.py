"""How large the cache is: what is asked for, what the model has, and what memory allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepen_llm import MemberConfig
from deepen_llm.errors import MemberError
from deepen_llm.members.gguf import memory
from deepen_llm.members.gguf.header import Header
from deepen_llm.members.gguf.memory import CacheSize, count_bytes_per_token

GB = 10**9


def header(**numbers):
    usual = {"context_length": 8192, "embedding_length": 576, "block_count": 30}
    usual |= {"attention.head_count": 9, "attention.head_count_kv": 3}
    settings = {f"llama.{name}": value for name, value in {**usual, **numbers}.items()}
    return Header(Path("one.gguf"), 0, {"general.architecture": "llama", **settings}, {})


def size(numbers=None, free=100 * GB, **options):
    return CacheSize(header(**numbers or {}), MemberConfig(model="one.gguf", **options), "one", free)


def test_a_token_takes_keys_and_values_of_every_layer():
    assert count_bytes_per_token(header(), "f16") == 2 * 2 * 30 * 3 * 64
    assert count_bytes_per_token(header(), "q8_0") == 2 * 2 * 30 * 3 * 64 * 8.5 / 16
    wide = {"attention.key_length": 128, "attention.value_length": 64}
    assert count_bytes_per_token(header(**wide), "f32") == 4 * 30 * 3 * 192
    some = {"attention.head_count_kv": (0, 4, 0, 4), "block_count": 4}
    assert count_bytes_per_token(header(**some), "f16") == 2 * 8 * 128
    assert count_bytes_per_token(header(**{"attention.head_count": 0, "attention.head_count_kv": 0}), "f16") == 0


def test_by_default_there_is_room_for_eight_rows_within_limits():
    few = size({"context_length": 1024})
    assert (few.context, few.num_tokens) == (1024, 8192)
    assert (size().context, size().num_tokens) == (8192, 32_768)
    long = size({"context_length": 131_072})
    assert (long.context, long.num_tokens) == (32_768, 32_768)


def test_by_default_the_cache_takes_a_quarter_of_the_free_memory_at_most():
    tight = size(free=4 * 23_040 * 1000)
    assert (tight.context, tight.num_tokens) == (1000, 1000)
    assert size(free=None).num_tokens == 32_768


def test_a_context_that_is_asked_for_fits_whatever_the_default_is():
    assert size(context=50_000).num_tokens == 50_000 and size(context=50_000).context == 50_000
    assert size(context=100).num_tokens == 800
    assert size(context=100, cache_tokens=300).num_tokens == 300
    assert size(cache_tokens=300).context == 300


def test_a_cache_larger_than_memory_is_refused_with_the_numbers():
    message = (
        r"member 'one': the keys and values of 1,000,000 tokens take 23.0 GB \(23,040 bytes each\), and 2.0 GB of "
        "memory are free: give context or cache_tokens of at most 86,805"
    )
    with pytest.raises(MemberError, match=message):
        size(context=1_000_000, free=2 * GB)
    with pytest.raises(MemberError, match="cache_tokens must be at least context=500; got 400"):
        size(context=500, cache_tokens=400)


def test_free_memory_is_what_the_system_and_the_container_leave(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal: 200 kB\nMemAvailable:  100 kB\n")
    assert memory.find_free_bytes() == 102_400
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.current").write_text("2000\n")
    assert memory.find_free_bytes() == 3000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.find_free_bytes() == 102_400
