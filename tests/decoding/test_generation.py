"""One answer in progress: which token it takes, which text is certain, where it ends."""

from __future__ import annotations

import pytest
import torch

from tests.decoding.steps import STORY, make_members, make_sequence


@pytest.fixture
def members(vocabularies):
    return make_members(vocabularies)


def logprobs_for(members, token_id):
    logits = torch.zeros(len(members[0].vocabulary))
    logits[token_id] = 9.0
    return logits.log_softmax(dim=-1)


def take(sequence, members, text):
    """Have the sequence take the main model's tokens for a text."""
    for token_id in members[0].vocabulary.encode(text, at_start=False):
        sequence.accept(token_id, logprobs_for(members, token_id), None)


def test_end_of_sequence_ends_the_answer_and_counts_as_a_token(members):
    sequence = make_sequence(members)
    take(sequence, members, " brown")
    end = members[0].vocabulary.eos_ids[0]
    sequence.accept(end, logprobs_for(members, end), None)
    answer = sequence.result()
    assert sequence.is_finished and (answer.text, answer.finish_reason) == (" brown", "stop")
    assert answer.token_ids[-1] == end and answer.usage.completion_tokens == len(answer.token_ids)


def test_a_stop_string_is_cut_off_with_what_follows_it(members):
    sequence = make_sequence(members, stop=("fox",))
    take(sequence, members, " brown fox")
    assert sequence.is_finished and sequence.result().text == " brown "


def test_the_token_limit_ends_an_answer_as_a_full_context_does(members):
    limited = make_sequence(members, max_new_tokens=2)
    ids = members[0].vocabulary.encode(" brown fox jumps", at_start=False)[:2]
    for token_id in ids:
        limited.accept(token_id, logprobs_for(members, token_id), None)
    full = make_sequence(members)
    take(full, members, " brown")
    full.finish_full()
    assert limited.is_finished and full.is_finished
    assert {limited.result().finish_reason, full.result().finish_reason} == {"length"}


def test_greedy_takes_the_best_and_a_seed_draws_the_same_again(members):
    logprobs = torch.randn(len(members[0].vocabulary), generator=torch.Generator().manual_seed(1)).log_softmax(dim=-1)
    best = int(logprobs.argmax())
    assert make_sequence(members).choose(logprobs, best) == best
    drawn = {make_sequence(members, temperature=2.0, seed=5).choose(logprobs, best) for _ in range(3)}
    assert len(drawn) == 1


def test_what_is_forbidden_is_not_drawn_however_likely(members):
    ends = members[0].vocabulary.eos_ids
    sequence = make_sequence(members, temperature=1.0, seed=1, ignore_eos=True)
    assert tuple(sequence.forbidden_ids) == ends and not make_sequence(members).forbidden_ids
    logprobs = logprobs_for(members, ends[0])
    assert all(sequence.choose(logprobs, 5) not in ends for _ in range(20))


def test_log_probabilities_come_with_as_many_alternatives_as_asked(members):
    sequence = make_sequence(members, logprobs=3)
    token_id = members[0].vocabulary.encode(" brown", at_start=False)[0]
    logprobs = logprobs_for(members, token_id)
    sequence.accept(token_id, logprobs, None)
    (choice,) = sequence.result().logprobs
    assert choice.token_id == token_id and len(choice.top) == 3
    assert choice.logprob == pytest.approx(float(logprobs[token_id]))
    assert make_sequence(members).result().logprobs is None


def test_a_context_that_has_room_for_less_than_the_limit_is_the_room(members):
    sequence = make_sequence(members, STORY[:9], max_new_tokens=1000)
    room = sequence._room()
    assert room.num_tokens == members[0].context_length - len(members[0].vocabulary.encode_prompt(STORY[:9]).ids)
    assert room.num_bytes == members[1].context_length - len(members[1].vocabulary.encode_prompt(STORY[:9]).ids)
