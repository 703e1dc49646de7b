"""A member that fails when it is told to, and is the other member otherwise."""

from __future__ import annotations

import pytest

from deepen_llm.testing import FaultyMember, MemberConformance, ScriptedMember
from deepen_llm.testing.faulty import always, changing, once, raising, raising_after, returning, waiting
from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers


class TestFaultyMember(MemberConformance):
    def make_member(self):
        vocabulary = Vocabulary.from_tokenizer(toy_tokenizers.byte_level_bpe(), name="bpe")
        return FaultyMember(ScriptedMember(vocabulary, [self.text]))

    def count_cached(self):
        return self.member.num_open


@pytest.fixture
def member(vocabularies):
    return FaultyMember(ScriptedMember(vocabularies["bpe"], ["a b"]))


def test_a_fault_comes_once_and_the_member_goes_on(member):
    member.choose = once("open", raising(MemoryError("full")))
    with pytest.raises(MemoryError, match="full"):
        member.open()
    assert member.open() == 0 and member.num_open == 1


def test_a_fault_may_come_at_every_operation_of_its_kind(member):
    member.choose = always("release", raising(OSError("gone")))
    row = member.open()
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            member.release(row)
    assert member.num_open == 1


def test_results_are_changed_replaced_or_late(member):
    row = member.open()
    plain = member.start_extend({row: [5]}).result()
    member.choose = once("result", changing(lambda logits: logits + 1))
    assert member.start_extend({row: [6]}).result().max() == plain.max() + 1
    member.choose = once("result", returning("nothing"))
    assert member.start_extend({row: [7]}).result() == "nothing"
    member.choose = once("start_extend", returning(None))
    assert member.start_extend({row: [8]}) is None
    member.choose = once("rollback", waiting(0.0))
    member.rollback(row, 1)
    assert member.member.rows[row] == [5, 6]


@pytest.mark.parametrize("make", [raising, raising_after])
def test_an_error_that_is_raised_again_and_again_keeps_the_frames_of_one_time(make):
    fault, depths = make(OSError("gone")), []
    for _ in range(3):
        with pytest.raises(OSError, match="gone") as raised:
            fault(lambda: None)
        depths.append(len(raised.traceback))
    assert len(set(depths)) == 1
