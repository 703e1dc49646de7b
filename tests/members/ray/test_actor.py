"""What runs in an actor, called as the coordinator calls it."""

from __future__ import annotations

import logging

import pytest
import torch

from deepen_llm.members.base import Branch
from deepen_llm.members.ray.actor import MemberActor
from deepen_llm.members.ray.messages import Asked, Change
from deepen_llm.testing import FaultyMember
from deepen_llm.testing.faulty import always, once, raising
from tests.members.ray.in_process import HeldConfig
from tests.members.test_conformance_suite import make_random, make_scripted


def make_actor(member, num_told=1000):
    actor = MemberActor(HeldConfig(lambda: member), num_told)
    actor.load()
    return actor


def unpack(told):
    return told.unpack()[0].spread(1000)


def test_it_tells_the_best_tokens_only():
    member = make_scripted()
    actor = make_actor(member, num_told=3)
    summary, measured = actor.run(Asked(tokens={7: (1, 2)})).unpack()
    expected = member.extend({member.open(): (1, 2)}).log_softmax(-1).topk(3)
    assert sorted(summary.ids[0].tolist()) == sorted(expected.indices[0].tolist())
    assert torch.allclose(summary.logprobs.sort().values, expected.values.sort().values)
    assert measured == {}


def test_rows_have_the_coordinators_handles_and_changes_come_before_the_pass():
    member = make_scripted()
    actor = make_actor(member)
    actor.run(Asked(tokens={70: (1, 2, 3), 5: (4,)}))
    told = actor.run(Asked((Change(70, 2), Change(5, None)), {70: (9,), 8: (2, 3)}, measured={8: 1}))
    assert sorted(member.rows.values()) == [[1, 9], [2, 3]]
    assert set(told.measured) == {8}
    actor.run(Asked(branches=[Branch(8, 1, (5,)), Branch(70, 0, (5,))]))
    assert member.peeks[-1] == [[2, 5], [1, 9, 5]]
    actor.change([Change(70, None), Change(8, None), Change(99, None)])
    assert member.rows == {}


def test_a_row_that_could_not_be_changed_fails_when_it_is_used_and_no_other_does(caplog):
    member = FaultyMember(make_scripted())
    actor = make_actor(member)
    actor.run(Asked(tokens={1: (1, 2), 2: (3,)}))
    member.choose = once("rollback", raising(ValueError("no way back")))
    with caplog.at_level(logging.CRITICAL, "deepen_llm"):
        actor.run(Asked((Change(1, 1),), {2: (4,)}))
        with pytest.raises(ValueError, match="no way back"):
            actor.run(Asked(tokens={1: (5,), 2: (6,)}))
    assert sorted(member.member.rows.values()) == [[1, 2], [3, 4]]
    actor.run(Asked((Change(1, None),), {1: (7,)}))
    assert sorted(member.member.rows.values()) == [[3, 4], [7]]


def test_a_release_that_fails_is_logged_and_the_row_counts_as_free(caplog):
    member = FaultyMember(make_scripted(), always("release", raising(ValueError("stuck"))))
    actor = make_actor(member)
    actor.run(Asked(tokens={1: (1, 2)}))
    actor.run(Asked((Change(1, None),), {1: (4,)}))
    assert "could not be changed" in caplog.text
    assert sorted(member.member.rows.values()) == [[1, 2], [4]]


def test_rows_are_fed_anew_one_after_the_other_and_a_row_that_fails_fails_alone(caplog):
    member = FaultyMember(make_scripted())
    actor = make_actor(member)
    member.choose = once("result", raising(MemoryError("no room")))
    with caplog.at_level(logging.CRITICAL, "deepen_llm"):
        actor.restore({4: [1, 2], 6: [3]}, {})
    assert member.member.passes == [{0: [1, 2]}, {1: [3]}]
    actor.run(Asked(tokens={6: (5,)}))
    with pytest.raises(MemoryError, match="no room"):
        actor.run(Asked(tokens={4: (5,)}))


def test_passes_run_in_inference_mode():
    member = make_scripted()
    modes = []
    member.before_pass = lambda fed: modes.append(torch.is_inference_mode_enabled())
    actor = make_actor(member)
    actor.run(Asked(tokens={0: (1,)}))
    actor.restore({1: [1]}, {})
    assert modes == [True, True]


def test_it_describes_the_member():
    member = make_random("llama")
    found = make_actor(member).describe()
    assert found.vocabulary is member.vocabulary and found.identity == member.identity
    assert (found.context_length, found.weight_bytes) == (member.context_length, member.weight_bytes)
    assert found.num_parameters == member.num_parameters
    assert found.cache_bytes_per_token == member.cache_bytes_per_token


def test_embeddings_come_in_pieces():
    member = make_random("llama")
    actor = make_actor(member)
    table = actor.find_table()
    assert (table.num_rows, table.hidden) == member.embeddings.shape
    assert torch.equal(table.unpack(actor.read_embeddings(2, 5)), member.embeddings[2:5])


def test_a_member_that_is_not_loaded_is_told():
    with pytest.raises(RuntimeError, match="not loaded"):
        MemberActor(HeldConfig(make_scripted), 3).run(Asked(tokens={0: (1,)}))
