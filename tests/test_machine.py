from __future__ import annotations

from deepen_llm.machine import describe_machine


def test_the_machine_is_described_without_naming_it():
    assert {"processor", "torch", "threads", "python"} <= set(describe_machine())
    assert "node" not in describe_machine()
