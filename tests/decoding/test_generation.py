"""One answer in progress: which token it takes, which text is certain, where it ends."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.members.generation_defaults import GenerationDefaults
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


def choose(sequence, logprobs, main_logits=None):
    """One step as the engine takes it: restrict, choose, accept."""
    sequence.tracks[0].batch, sequence.tracks[0].place = (logprobs if main_logits is None else main_logits)[None], 0
    row = sequence.restrict(logprobs)
    allowed = row.clone()
    allowed[list(sequence.forbidden_ids)] = -torch.inf
    token_id = sequence.choose(row, int(allowed.argmax()))
    sequence.accept(token_id, row, None)
    return token_id


def test_nothing_ends_an_answer_before_its_least_number_of_tokens(members):
    vocabulary = members[0].vocabulary
    end, word = vocabulary.eos_ids[0], vocabulary.encode(" fox", at_start=False)[0]
    for params in ({}, {"temperature": 1.0, "seed": 1}, {"presence_penalty": 0.5}):
        sequence = make_sequence(members, min_new_tokens=2, stop_token_ids=[word], **params)
        for _ in range(2):
            assert choose(sequence, logprobs_for(members, end)) not in (end, word)
            assert not sequence.is_finished
        assert choose(sequence, logprobs_for(members, end)) == end and sequence.is_finished


def test_a_stop_string_within_the_least_number_of_tokens_is_text(members):
    sequence = make_sequence(members, min_new_tokens=4, stop=("fox",))
    take(sequence, members, " fox")
    assert not sequence.is_finished
    take(sequence, members, " brown brown brown fox")
    assert sequence.is_finished and sequence.result().text.startswith(" fox brown")
    assert sequence.result().text.count("fox") == 1


def test_an_answer_stops_at_a_stop_token_whose_text_it_does_not_hold(members):
    vocabulary = members[0].vocabulary
    word = vocabulary.encode(" fox", at_start=False)[0]
    sequence = make_sequence(members, stop_token_ids=[word])
    take(sequence, members, " brown")
    sequence.accept(word, logprobs_for(members, word), None)
    answer = sequence.result()
    assert (answer.text, answer.finish_reason, answer.token_ids[-1]) == (" brown", "stop", word)


def test_an_answer_stops_at_a_special_token_of_the_main_model_that_is_a_stop_string(members):
    vocabulary = members[0].vocabulary
    special = min(vocabulary.special_ids - set(vocabulary.eos_ids))
    logits = torch.zeros(len(vocabulary))
    logits[special] = 20.0
    fused = torch.zeros(len(vocabulary)).masked_fill(~vocabulary.allowed, -torch.inf).log_softmax(dim=-1)
    plain, stopping = make_sequence(members), make_sequence(members, stop=[vocabulary.display(special)])
    assert choose(plain, fused, logits) != special
    assert choose(stopping, fused, logits) == special
    answer = stopping.result()
    assert (answer.text, answer.finish_reason) == ("", "stop")
    assert plain.is_checked and not stopping.is_checked


def test_log_probabilities_are_those_before_bias_and_penalties(members):
    vocabulary = members[0].vocabulary
    first, second = vocabulary.encode(" brown", at_start=False)[0], vocabulary.encode(" fox", at_start=False)[0]
    logits = torch.zeros(len(vocabulary))
    logits[first], logits[second] = 9.0, 8.0
    logprobs = logits.log_softmax(dim=-1)
    sequence = make_sequence(members, logprobs=2, logit_bias={first: -50.0}, temperature=0.0)
    assert choose(sequence, logprobs) == second
    (choice,) = sequence.result().logprobs
    assert choice.logprob == pytest.approx(float(logprobs[second]))
    assert [other.token_id for other in choice.top] == [first, second]


def test_what_the_main_models_own_settings_suppress_is_never_chosen(members, monkeypatch):
    vocabulary = members[0].vocabulary
    word = vocabulary.encode(" brown", at_start=False)[0]
    monkeypatch.setattr(type(members[0]), "generation_defaults", GenerationDefaults((word,)))
    for params in ({}, {"temperature": 1.0, "seed": 1}, {"frequency_penalty": 0.5}):
        assert choose(make_sequence(members, **params), logprobs_for(members, word)) != word
