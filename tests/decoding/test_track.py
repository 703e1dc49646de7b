"""One member of one sequence."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.decoding.track import Track
from deepen_llm.errors import ContextLengthError, MemberError
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.projection.results import Projection
from deepen_llm.testing import ScriptedMember


def make_track(vocabularies, prompt="The quick", kind="bpe", *, takes_main_tokens=False, context_length=64):
    member = ScriptedMember(vocabularies[kind], ["The quick brown fox"], context_length=context_length)
    encoded = member.vocabulary.encode_prompt(prompt)
    return member, Track(GuardedMember(member), encoded, takes_main_tokens=takes_main_tokens)


def feed(member, track):
    track.note_fed(member.extend({track.row: track.pending}), 0)


def test_a_row_is_opened_when_it_is_first_asked_for_and_freed_once(vocabularies):
    member, track = make_track(vocabularies)
    assert not member.rows
    feed(member, track)
    assert list(member.rows) == [track.row]
    track.release()
    track.release()
    assert not member.rows


def test_the_logits_are_a_row_of_the_batch_and_none_before_it(vocabularies):
    member, track = make_track(vocabularies)
    assert track.logits is None
    batch = torch.randn(3, len(member.vocabulary))
    track.note_fed(batch, 2)
    assert track.logits.data_ptr() == batch[2].data_ptr()
    assert (track.pending, track.num_fed) == ([], len(member.vocabulary.encode_prompt("The quick").ids))


@pytest.mark.parametrize("takes_main_tokens", [True, False])
def test_a_pushed_token_goes_in_as_itself_or_as_its_text(vocabularies, takes_main_tokens):
    member, track = make_track(vocabularies, takes_main_tokens=takes_main_tokens)
    feed(member, track)
    track.push(7, " brown", b"")
    ids = [7] if takes_main_tokens else member.vocabulary.encode("The quick brown")[track.num_fed :]
    assert track.pending == ids


def test_text_that_changes_the_last_tokens_takes_them_back_from_the_cache(vocabularies):
    member, track = make_track(vocabularies, "What is t")
    feed(member, track)
    for piece in ("h", "e", "re"):
        track.push(0, piece, b"")
        feed(member, track)
        assert member.rows[track.row] == track.alignment.ids
    assert member.num_rolled_back > 0


def test_what_expanding_took_is_summed_up_and_the_last_one_forgotten_with_the_next_token(vocabularies):
    member, track = make_track(vocabularies)
    feed(member, track)
    for _ in range(2):
        projection = Projection(torch.zeros(3), truncated_mass=0.25, num_rows=3, num_passes=1)
        track.note_projection(projection)
        assert track.projection is projection
        track.push(0, "x", b"")
        assert track.projection is None
    assert (track.num_extra_rows, track.num_extra_passes, track.truncated_mass) == (6, 2, 0.5)


def test_a_prompt_without_room_for_an_answer_is_refused_and_a_full_row_told(vocabularies):
    with pytest.raises(ContextLengthError, match="for member 'bpe', whose context holds 3: at most 2 of them"):
        make_track(vocabularies, "The quick brown fox", context_length=3)
    member, track = make_track(vocabularies, "The", context_length=2, takes_main_tokens=True)
    feed(member, track)
    assert not track.is_full
    track.push(5, "", b"")
    track.push(6, "", b"")
    assert track.is_full and track.num_left < 0


def test_a_release_that_fails_counts_as_done_and_names_the_member(vocabularies):
    member, track = make_track(vocabularies)
    feed(member, track)

    def fail(row):
        raise OSError("gone")

    member.release = fail
    with pytest.raises(MemberError, match="'bpe' failed while a row was released: OSError: gone"):
        track.release()
    track.release()
