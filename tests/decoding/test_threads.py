"""How many threads the engine computes with."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.decoding.threads import SMALL_BYTES, choose_num_threads
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.testing import ScriptedMember


@pytest.mark.parametrize(("num_bytes", "expected"), [(SMALL_BYTES, 1), (SMALL_BYTES + 1, None)])
def test_one_thread_is_for_members_that_are_all_small(vocabularies, monkeypatch, num_bytes, expected):
    members = [GuardedMember(ScriptedMember(vocabularies["bpe"], [])) for _ in range(2)]
    assert choose_num_threads(members) == 1
    sizes = iter([1000, num_bytes])
    monkeypatch.setattr(ScriptedMember, "weight_bytes", property(lambda self: next(sizes)))
    assert choose_num_threads(members) == expected


@pytest.mark.parametrize(
    ("num_threads", "num_beside", "expected"), [(2, 1, 1), (8, 1, 4), (8, 2, 2), (2, 3, 1), (8, 0, None)]
)
def test_torch_leaves_their_share_to_members_that_compute_beside_it(
    vocabularies, monkeypatch, num_threads, num_beside, expected
):
    members = [GuardedMember(ScriptedMember(vocabularies["bpe"], [])) for _ in range(4)]
    beside = {id(guarded.member) for guarded in members[:num_beside]}
    monkeypatch.setattr(ScriptedMember, "weight_bytes", SMALL_BYTES + 1)
    monkeypatch.setattr(ScriptedMember, "computes_beside", property(lambda self: id(self) in beside))
    monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)
    assert choose_num_threads(members) == expected
