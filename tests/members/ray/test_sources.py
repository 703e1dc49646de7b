"""An encoder-decoder in an actor: what its encoder reads goes with the row's first tokens, and to the next actor."""

from __future__ import annotations

import logging

import pytest
import torch

from deepen_llm.testing import MemberConformance
from tests import encoder_decoders
from tests.members.ray.in_process import make_member
from tests.members.ray.test_member import LOST, DiesAtEveryFifthPass, extend
from tests.members.test_conformance_suite import make_scripted

SOURCE = "the quick brown fox"
FAMILY = "t5"


def make_translator():
    return make_member(lambda: encoder_decoders.make_member(FAMILY))


class TestEncoderDecoderInAnActorThatDies(MemberConformance):
    def make_member(self):
        logging.getLogger("deepen_llm").setLevel(logging.CRITICAL)
        member, self.host = make_translator()
        self.host.fails = DiesAtEveryFifthPass()
        source_ids = member.source_reader.encode(SOURCE)
        member.open = lambda: member.open_over(source_ids)
        return member

    def teardown_method(self):
        logging.getLogger("deepen_llm").setLevel(logging.NOTSET)
        super().teardown_method()


def test_each_row_has_its_source_also_in_the_next_actor(caplog):
    member, host = make_translator()
    near = encoder_decoders.make_member(FAMILY)
    sources = [near.source_reader.encode(text) for text in (SOURCE, "dog")]
    assert member.source_reader.encode(SOURCE) == sources[0]
    rows, expected = ([one.open_over(source) for source in sources] for one in (member, near))
    for ids in ([1, 2], [3]):
        logits = extend(member, dict.fromkeys(rows, ids))
        due = extend(near, dict.fromkeys(expected, ids)).log_softmax(-1)
        assert torch.allclose(logits, due, atol=1e-4) and not torch.allclose(due[0], due[1], atol=1e-4)
        host.fails = {host.num_runs + 1: LOST}
    assert host.num_starts == 2


def test_a_source_crosses_once():
    member, host = make_translator()
    row = member.open_over(member.source_reader.encode(SOURCE))
    extend(member, {row: [1]})
    extend(member, {row: [2]})
    assert [bool(asked.sources) for method, (asked, *_) in host.sent[1:]] == [True, False]


def test_a_member_without_an_encoder_refuses_a_source():
    member, _ = make_member(make_scripted)
    assert member.source_reader is None
    with pytest.raises(TypeError, match="kind 'ray' has no encoder"):
        member.open_over([1, 2])
