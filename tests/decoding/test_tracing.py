"""What happened in one step, for people to read."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.decoding.tracing import NUM_TOP, describe_best, trace_step
from tests.decoding.steps import make_members, make_sequence


def row_for(vocabulary, text):
    logits = torch.zeros(1, len(vocabulary))
    logits[0, vocabulary.ids_by_token[text]] = 6.0
    return logits


@pytest.fixture
def sequence(vocabularies):
    members = make_members(vocabularies)
    sequence = make_sequence(members)
    for track, text in zip(sequence.tracks, (b" the", b"t"), strict=True):
        track.batch = row_for(track.member.vocabulary, text)
    return sequence


def test_each_members_best_tokens_are_told_and_who_changed_the_choice(sequence):
    main, other = (track.member.vocabulary for track in sequence.tracks)
    fused = row_for(main, b"t")[0].log_softmax(dim=-1)
    trace = trace_step(sequence, fused, main.ids_by_token[b"t"])
    assert [view.member for view in trace.members] == ["bpe", "sentencepiece"]
    assert [view.top[0].text for view in trace.members] == [" the", "t"]
    assert trace.fused[0].text == "t" == trace.text and len(trace.fused) == NUM_TOP
    assert trace.changed_by == ("sentencepiece",)
    own = trace_step(sequence, fused, main.ids_by_token[b" the"])
    assert own.changed_by == () and other.ids_by_token[b"t"] == trace.members[1].top[0].token_id


def test_a_step_that_was_left_to_the_main_model_tells_of_it_alone(sequence):
    sequence.is_fused = False
    main = sequence.tracks[0].member.vocabulary
    trace = trace_step(sequence, row_for(main, b"t")[0].log_softmax(dim=-1), main.ids_by_token[b"t"])
    assert [view.member for view in trace.members] == ["bpe"] and not trace.is_fused and trace.changed_by == ()


def test_tokens_without_probability_are_none_of_the_best(vocabularies):
    probs = torch.zeros(len(vocabularies["bpe"]))
    probs[[3, 9]] = torch.tensor([0.25, 0.75])
    best = describe_best(vocabularies["bpe"], probs, 5)
    assert [(candidate.token_id, candidate.prob) for candidate in best] == [(9, 0.75), (3, 0.25)]
