from __future__ import annotations

import inspect

import torch

from deepen_llm.members.base import Member
from deepen_llm.members.borrowed import BorrowedMember
from deepen_llm.testing import ScriptedMember


def test_everything_but_close_reaches_the_lender(vocabularies):
    lender = ScriptedMember(vocabularies["bpe"], ["the cat sat."])
    member = BorrowedMember(lender)
    row = member.open()
    ids = member.vocabulary.encode("the cat")
    started = member.start_extend({row: ids}, {row: 1})
    logits = started.result()
    assert lender.rows == {row: ids} and lender.measured == [ids[-1:]]
    assert started.measured[row].shape == (1,)
    assert torch.equal(member.peek([(row, 0, ids[:1])]), lender.peek([(row, 0, ids[:1])]))
    member.rollback(row, 1)
    assert lender.rows == {row: ids[:-1]} and logits.shape == (1, len(member.vocabulary))
    member.release(row)
    assert not lender.rows
    member.close()
    assert not lender.is_closed


def test_what_a_member_tells_of_itself_is_the_lenders(vocabularies):
    lender = ScriptedMember(vocabularies["bpe"], ["the cat sat."], context_length=99)
    member = BorrowedMember(lender)
    told = [name for name, value in inspect.getmembers(Member) if isinstance(value, property)]
    for name in (*told, "name", "vocabulary", "context_length"):
        ours, theirs = getattr(member, name), getattr(lender, name)
        assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs


def test_nothing_of_the_interface_is_left_to_its_default():
    public = {name for name in vars(Member) if not name.startswith("_")}
    inherited = {name for name in public if name not in vars(BorrowedMember)}
    assert inherited <= {"allowed", "extend", "peek"}  # follow from the vocabulary and from the starts of passes
