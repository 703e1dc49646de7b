"""A member's turn behind a text that ends inside one of its tokens, held against the equation by hand."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from deepen_llm.assembly import build_drawing, build_frame
from deepen_llm.config import FusionConfig
from deepen_llm.decoding.track import Track
from deepen_llm.decoding.writing import Writing
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.projection.first_tokens import NONE
from deepen_llm.vocabulary.words import Place
from tests.decoding.drawn_members import make_member, make_vocabulary

MAIN = make_vocabulary("main")
OTHER = make_vocabulary("other", ("a", "Ġ"), ("Ġ", "b"), ("aĠ", "b"))
A, B, SPACE, A_SPACE, SPACE_B, A_SPACE_B, END = range(7)


class Turn:
    """The turn of the second member behind a text."""

    def __init__(self, text, place=None, tail=()):
        self.members = [GuardedMember(make_member(vocabulary, 0)) for vocabulary in (MAIN, OTHER)]
        config = FusionConfig(method="text", fuse="drawn")
        plain = [member.member for member in self.members]
        drawing = build_drawing(self.members, 0, build_frame(plain, 0, config), config)
        self.track = Track(self.members[1], OTHER.encode_prompt(text), takes_main_tokens=False)
        self.writing = Writing(self.track, 1, drawing, place, tail)
        self.fed = []

    def feed(self, probs):
        """Feed what waits; whether the member may write after it."""
        self.fed.append(list(self.track.pending))
        logits = self.members[1].start_extend({self.track.row: self.track.pending}).result().tensor
        self.track.note_fed(logits, 0)
        return self.writing.read(torch.tensor(probs))

    @property
    def row(self):
        """The tokens in the member's cache."""
        return self.members[1].member.rows[self.track.row]


def gives(**masses):
    """Probs with these masses, the tokens named by what they spell: `_` is the space."""
    names = ["a", "b", "_", "a_", "_b", "a_b", "end"]
    return [masses.get(name, 0.0) for name in names]


def share_of(turn, num=3000):
    """How often each text is drawn, by a turn that is put back each time."""
    generator, writing, counted = torch.Generator().manual_seed(0), turn.writing, Counter()
    kept = dict(vars(writing))
    row, pending, fed = list(turn.row), list(turn.track.pending), list(turn.track.fed)
    for _ in range(num):
        token_id = writing.draw(generator)
        counted[token_id, writing.written] += 1
        vars(writing).update(kept)
        turn.row[:] = row
        turn.track.pending, turn.track.fed = list(pending), list(fed)
    return {key: number / num for key, number in counted.items()}


def test_a_text_that_ends_where_no_longer_token_begins_is_gone_on_with_at_once():
    turn = Turn("ab", Place.IN_WORD)
    assert turn.feed(gives(a=0.3, _=0.7))
    assert turn.fed == [[A, B]]
    # Only what begins a word may come.
    assert share_of(turn) == {(SPACE, b" "): 1.0}


def test_tokens_that_go_on_beyond_the_end_of_the_text_count_by_what_the_member_gave_its_way_there():
    turn = Turn("ba")
    assert not turn.feed(gives(a=0.4, a_=0.2, a_b=0.1, b=0.3))
    assert turn.feed(gives(_b=0.25, b=0.25, a=0.5))
    assert turn.fed == [[B], [A]]
    expected = {
        (A_SPACE, b" "): 0.2,
        (A_SPACE_B, b" b"): 0.1,
        (SPACE_B, b" b"): 0.4 * 0.25,
        (B, b"b"): 0.4 * 0.25,
        (A, b"a"): 0.4 * 0.5,
    }
    total = sum(expected.values())
    shares = share_of(turn)
    assert set(shares) == set(expected)
    for key, mass in expected.items():
        assert shares[key] == pytest.approx(mass / total, abs=0.03)


def test_only_tokens_that_begin_a_word_behind_the_text_count_where_one_is_to_begin():
    turn = Turn("ba", Place.IN_WORD)
    assert not turn.feed(gives(a=0.4, a_=0.2, b=0.4))
    assert turn.feed(gives(_b=0.25, b=0.25, a=0.5))
    shares = share_of(turn)
    assert set(shares) == {(A_SPACE, b" "), (SPACE_B, b" b")}
    assert shares[A_SPACE, b" "] == pytest.approx(0.2 / (0.2 + 0.1), abs=0.03)


def test_a_longer_token_takes_the_place_of_those_in_the_row():
    turn = Turn("ba")
    turn.feed(gives(a_b=1.0))
    turn.feed(gives(b=1.0))
    assert turn.row == [B, A]
    assert turn.writing.draw(torch.Generator()) == A_SPACE_B
    assert turn.row == [B] and turn.track.pending == [A_SPACE_B]
    assert turn.writing.written == b" b"


def test_a_member_that_gives_nothing_draws_nothing():
    turn = Turn("ab", Place.IN_WORD)
    assert turn.feed(gives(a=1.0))
    assert turn.writing.draw(torch.Generator()) == NONE


def test_what_the_main_model_would_have_cut_otherwise_is_not_drawn():
    main = make_vocabulary("main", ("a", "Ġ"))
    turn = Turn("ba", tail=(B, A))
    turn.writing._drawing._first._main = main
    turn.feed(gives(a=0.5, a_=0.5))
    turn.feed(gives(b=1.0))
    # Had the text been meant to go on with a space, the main model would have said "a " and not "a".
    assert set(share_of(turn)) == {(B, b"b")}


@pytest.mark.parametrize("num_fed", [0, 1, 2])
def test_a_row_keeps_what_the_tokenizer_cuts_as_the_member_wrote_it(num_fed):
    turn = Turn("ab", Place.IN_WORD)
    turn.feed(gives(_b=1.0))
    generator = torch.Generator()
    turn.writing.draw(generator)
    for _ in range(num_fed):
        turn.feed(gives(a=1.0))
        turn.writing.draw(generator)
    turn.track.push(0, " b", b"")
    turn.writing.end()
    assert turn.track.alignment.ids == [A, B, SPACE_B]
    assert [*turn.row, *turn.track.pending] == [A, B, SPACE_B]
    assert len(turn.row) == min(2 + num_fed, 3) - (num_fed == 2)


def test_a_text_that_came_out_otherwise_is_fed_anew():
    turn = Turn("ab", Place.IN_WORD)
    turn.feed(gives(_b=1.0))
    turn.writing.draw(torch.Generator())
    turn.feed(gives(a=1.0))
    turn.track.push(0, "a", b"")
    turn.writing.end()
    assert [*turn.row, *turn.track.pending] == [A, B, A]
    assert turn.row == [A, B]
