"""What every member has from its base class."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.errors import ConfigError
from deepen_llm.members.base import Branch, Member, Pending, Ready, require_embeddings
from deepen_llm.testing import ScriptedMember


class Shy(ScriptedMember):
    """A member of a kind that shows no embeddings."""

    embeddings = Member.embeddings


def test_embeddings_are_none_unless_a_member_shows_some(vocabularies):
    assert Shy(vocabularies["bpe"], []).embeddings is None


def test_required_embeddings_are_the_members_own(vocabularies):
    member = ScriptedMember(vocabularies["bpe"], [])
    assert require_embeddings(member) is member.embeddings


@pytest.mark.parametrize("method", ["relative", "mine"])
def test_a_member_without_embeddings_is_refused_by_name_kind_and_method(vocabularies, method):
    message = (
        f"^method='{method}' needs the input embeddings of every member; member 'bpe' \\(kind 'Shy'\\) has none: take "
        "method='text', which needs none, or leave the member out$"
    )
    with pytest.raises(ConfigError, match=message):
        require_embeddings(Shy(vocabularies["bpe"], []), method)


def test_the_published_method_is_the_one_that_needs_them(vocabularies):
    with pytest.raises(ConfigError, match=r"^method='relative' needs"):
        require_embeddings(Shy(vocabularies["bpe"], []))


def test_a_pass_that_is_ready_has_its_logits():
    logits = torch.zeros(2, 3)
    assert isinstance(Ready(logits), Pending)
    assert Ready(logits).result() is logits
    assert Ready(logits).measured == {}
    measured = {7: torch.zeros(4)}
    assert Ready(logits, measured).measured is measured


def test_a_pass_measures_nothing_unless_it_says_so(vocabularies):
    member = Slow(vocabularies["bpe"], ["the cat sat."])
    member.log = []
    started = member.start_extend({member.open(): [5, 6]}, {0: 1})
    started.result()
    assert started.measured == {}


def test_a_member_that_does_not_say_how_large_it_is_has_no_number_of_parameters(vocabularies):
    assert ScriptedMember(vocabularies["bpe"], []).num_parameters is None


class Slow(ScriptedMember):
    """Notes what is started and what is waited for."""

    def start_extend(self, tokens, measured=None):
        return Noted(self, "extend", super().start_extend(tokens, measured))

    def start_peek(self, branches):
        return Noted(self, "peek", super().start_peek(branches))


class Noted(Pending):
    def __init__(self, member, what, pending):
        self._member, self._what, self._pending = member, what, pending
        member.log.append(f"{what} started")

    def result(self):
        self._member.log.append(f"{self._what} waited for")
        return self._pending.result()


def test_extend_and_peek_start_a_pass_and_wait(vocabularies):
    member = Slow(vocabularies["bpe"], ["the cat sat."])
    member.log = []
    row, ids = member.open(), member.vocabulary.encode("the cat sat.")
    extended = member.extend({row: ids[:-1]})
    peeked = member.peek([Branch(row, 0, ids[-1:]), Branch(row, 1, ids[-2:-1])])
    assert member.log == ["extend started", "extend waited for", "peek started", "peek waited for"]
    assert extended.shape == (1, len(member.vocabulary)) and int(extended.argmax()) == ids[-1]
    assert peeked.argmax(dim=-1).tolist() == [member.vocabulary.eos_ids[0], ids[-1]]


def test_a_branch_is_a_row_how_far_back_and_the_tokens_there():
    branch = Branch(row=3, num_back=1, ids=[5, 6])
    assert branch == (3, 1, [5, 6])


def test_a_kind_that_does_not_say_its_name_is_called_by_its_class(vocabularies):
    assert ScriptedMember(vocabularies["bpe"], []).kind == "ScriptedMember"


def test_a_member_that_lacks_a_part_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        Member()
