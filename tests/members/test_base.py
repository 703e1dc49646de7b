"""The interface of a member: what follows from the rest of it, and what it says of a member that lacks something."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.errors import ConfigError
from deepen_llm.members.base import Branch, Member, Pending, Ready, require_embeddings
from deepen_llm.testing import ScriptedMember


class BareMember(ScriptedMember):
    """Leaves to the base class what may be left to it."""

    kind = Member.kind
    embeddings = Member.embeddings


@pytest.fixture
def member(vocabularies):
    return BareMember(vocabularies["bpe"], ["the cat sat on the mat"])


def test_a_pass_that_is_ready_gives_the_logits_it_was_made_of():
    logits = torch.zeros(2, 3)
    assert Ready(logits).result() is logits
    assert isinstance(Ready(logits), Pending)


def test_extending_and_peeking_is_to_start_and_to_wait(member):
    row = member.open()
    ids = member.vocabulary.encode("the cat")
    logits = member.extend({row: ids})
    assert logits.shape == (1, len(member.vocabulary))
    branches = [Branch(row, len(ids), ids), Branch(row, 1, ids[-1:])]
    assert torch.equal(member.peek(branches), logits.repeat(2, 1))
    assert torch.equal(member.start_peek(branches).result(), member.peek(branches))
    assert member.rows == {row: ids}


def test_the_tokens_that_may_come_are_those_of_the_vocabulary(member):
    assert member.allowed is member.vocabulary.allowed


def test_embeddings_and_the_name_of_the_kind_may_be_left_out(member):
    assert member.embeddings is None
    assert member.kind == "BareMember"


def test_a_method_that_needs_embeddings_says_so_and_which_member_has_none(member, vocabularies):
    scripted = ScriptedMember(vocabularies["bpe"], [])
    assert require_embeddings(scripted) is scripted.embeddings
    with pytest.raises(ConfigError) as caught:
        require_embeddings(member)
    assert str(caught.value) == (
        "method='relative' needs the input embeddings of every member; member 'bpe' (kind 'BareMember') has none: "
        "take method='text', which needs none, or leave the member out"
    )
    with pytest.raises(ConfigError, match=r"^method='published' needs the input embeddings"):
        require_embeddings(member, "published")


def test_a_member_that_lacks_a_method_cannot_be_made():
    class Half(Member):
        def open(self):
            return 0

    with pytest.raises(TypeError, match="abstract"):
        Half()
