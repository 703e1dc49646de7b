"""What every text in progress keeps, whatever becomes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deepen_llm.decoding.sequence import name_step
from deepen_llm.weighting.base import FixedWeights
from tests.decoding.steps import STORY, make_members, make_sequence


@pytest.fixture
def sequence(vocabularies):
    return make_sequence(make_members(vocabularies), STORY[:9])


def test_the_last_tokens_spell_as_many_bytes_as_are_asked_for(sequence):
    vocabulary = sequence.tracks[0].member.vocabulary
    ids = vocabulary.encode(" brown fox", at_start=False)
    for token_id in ids:
        sequence._push(token_id)
    assert sequence.last_tokens(0) == () == sequence.last_tokens(1000)
    for num_bytes in range(1, len(" brown fox") + 1):
        tail = sequence.last_tokens(num_bytes)
        assert tuple(ids[-len(tail) :]) == tail and len(vocabulary.join(tail)) >= num_bytes
        assert len(vocabulary.join(tail[1:])) < num_bytes


def test_a_token_goes_to_the_main_model_as_it_is_and_to_the_others_as_text(sequence):
    main, other = sequence.tracks
    before = len(main.pending)
    token_id = main.member.vocabulary.encode(" brown", at_start=False)[0]
    text = sequence._push(token_id)
    assert main.pending[before:] == [token_id] and sequence.chosen_ids == [token_id]
    prompt = other.member.vocabulary.encode_prompt(STORY[:9] + text)
    assert other.pending == list(prompt.ids)


def test_the_report_sums_up_what_the_tracks_counted(sequence):
    for at, track in enumerate(sequence.tracks, start=1):
        track.num_extra_rows, track.num_extra_passes, track.num_abstained = 4 * at, 2 * at, at
        track.truncated_mass = 0.3
    sequence.begin(FixedWeights((0.6, 0.4)))
    for is_fused in (True, True, False):
        sequence.is_fused = is_fused
        sequence._count_step()
    report = sequence.fusion_report()
    assert (report.num_steps, report.num_fused, report.weights) == (3, 2, (0.6, 0.4))
    assert (report.num_extra_rows, report.num_extra_passes, report.num_abstained) == (12, 6, 3)
    assert report.truncated_mass == pytest.approx(0.6 / 2)
    assert report.share_fused == pytest.approx(2 / 3)
    assert replace(report, num_forced=1).share_fused == 1


@pytest.mark.parametrize("tell", [lambda one: one.fail(ValueError("late")), lambda one: one.resolve()])
def test_nobody_who_has_gone_is_told_anything(sequence, tell):
    sequence.future.cancel()
    tell(sequence)
    assert sequence.future.cancelled()


def test_an_error_names_the_step_of_the_row_that_it_concerns(sequence, vocabularies):
    other = make_sequence(make_members(vocabularies), STORY[:5])
    other.num_steps = 7
    assert [name_step([sequence, other], place) for place in (0, 1)] == ["at step 0", "at step 7"]
