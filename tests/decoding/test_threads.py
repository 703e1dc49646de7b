"""How many threads the engine computes with."""

from __future__ import annotations

import threading

import pytest
import torch

from deepen_llm.decoding.threads import SMALL_BYTES, choose_num_threads, use_threads
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.testing import ScriptedMember


def run_in_thread(act):
    found = []
    thread = threading.Thread(target=lambda: found.append(act()))
    thread.start()
    thread.join()
    return found[0]


def test_only_the_calling_thread_changes():
    before = torch.get_num_threads()
    inside = run_in_thread(lambda: (use_threads(before + 1), torch.get_num_threads())[1])
    assert inside == before + 1
    assert torch.get_num_threads() == before == run_in_thread(torch.get_num_threads)


@pytest.mark.parametrize(("num_bytes", "expected"), [(SMALL_BYTES, 1), (SMALL_BYTES + 1, None)])
def test_one_thread_is_for_members_that_are_all_small(vocabularies, monkeypatch, num_bytes, expected):
    members = [GuardedMember(ScriptedMember(vocabularies["bpe"], [])) for _ in range(2)]
    assert choose_num_threads(members) == 1
    sizes = iter([1000, num_bytes])
    monkeypatch.setattr(ScriptedMember, "weight_bytes", property(lambda self: next(sizes)))
    assert choose_num_threads(members) == expected
