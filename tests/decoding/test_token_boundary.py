from __future__ import annotations

import pytest
import torch

from deepen_llm.decoding.alignment import Alignment
from deepen_llm.decoding.track import Track
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.testing import ScriptedMember
from tests.vocabularies import LOSSLESS, TEXTS, load_toy


class Row:
    """A track in a scripted member with a boundary, fed as the engine feeds it."""

    def __init__(self, prompt, kind="gpt2"):
        self.member = ScriptedMember(load_toy(kind), [], context_length=64)
        prompt = self.member.vocabulary.encode_prompt(prompt)
        self.track = Track(GuardedMember(self.member), prompt, takes_main_tokens=False)
        self.boundary = self.track.boundary
        self.feed()

    def push(self, text, open_bytes=b""):
        self.track.push(0, text, open_bytes)
        self.feed()

    def feed(self):
        if self.track.pending:
            self.track.note_fed(self.member.extend({self.track.row: self.track.pending}), 0)
        self.boundary.move(self.track.alignment, self.given)

    @property
    def given(self):
        return torch.full((len(self.member.vocabulary),), float(len(self.track.alignment.ids)))

    def text(self, path):
        """The text after which the member is asked, for a path."""
        row, num_back, ids = self.track.branch(path)
        fed = self.member.rows[row]
        return self.member.text(fed[: len(fed) - num_back] + list(ids))


def tokens_after(row, text):
    return tuple(row.member.vocabulary.encode(text, at_start=False))


def test_a_word_that_may_grow_is_pending_and_what_was_given_before_it_stays_known():
    row = Row("What is")
    before = row.boundary.known[()] if not row.boundary.pending else None
    row.push(" the")
    assert row.boundary.pending == b" the"
    assert set(row.boundary.known) >= {tokens_after(row, " the")}
    if before is not None:
        assert row.boundary.known[()] is before
    row.push(" zebra")
    assert not row.boundary.pending.startswith(b" the")


def test_the_boundary_moves_with_the_text_and_what_was_known_before_it_is_forgotten():
    row = Row("What is")
    paths = []
    for piece in (" the", " dog", "?", " It", "'s"):
        row.push(piece)
        paths.append(set(row.boundary.known))
        assert all(len(path) <= len(row.track.alignment.ids) for path in paths[-1])
    assert () in paths[-1] or row.boundary.pending
    assert len(paths[-1]) <= 2


def test_paths_that_went_along_with_the_text_stay_known_and_the_others_do_not():
    row = Row("What is")
    row.push(" the")
    assert row.boundary.pending == b" the"
    the, question = tokens_after(row, " the"), tokens_after(row, "?")
    there, other = tokens_after(row, " there"), tokens_after(row, " dog")
    row.boundary.known |= {(*the, *question): row.given + 0.5, there: row.given, other: row.given}
    row.push("?")
    assert row.boundary.pending == b""
    assert set(row.boundary.known) == {()}  # all of the text so far; the path is what the member itself probs now
    torch.testing.assert_close(row.boundary.known[()], row.given)


def test_paths_that_do_not_agree_with_the_pending_bytes_are_forgotten():
    row = Row("What is")
    row.push(" t")
    assert row.boundary.pending == b" t"
    the, dog = tokens_after(row, " the"), tokens_after(row, " dog")
    row.boundary.known |= {the: row.given, dog: row.given}
    row.push("h")
    assert row.boundary.pending == b" th"
    assert the in row.boundary.known and dog not in row.boundary.known


def test_a_row_that_stays_known_does_not_keep_its_batch():
    row = Row("What is")
    row.push(" t")
    batch = torch.zeros(8, len(row.member.vocabulary))
    row.boundary.move(row.track.alignment, batch[3])
    own = row.boundary.own_path
    assert row.boundary.known[own].data_ptr() == batch[3].data_ptr()
    row.push("h")
    kept = [probs for path, probs in row.boundary.known.items() if path != row.boundary.own_path]
    assert kept and all(probs.untyped_storage().nbytes() == probs.nbytes for probs in kept)


def test_the_member_is_asked_after_the_boundary():
    row = Row("What is")
    row.push(" the")
    assert row.text(()) == b"What is"
    assert row.text(tokens_after(row, " dog")) == b"What is dog"
    assert row.boundary.num_before == len(tokens_after(row, "What is"))
    assert row.boundary.own_path == tokens_after(row, " the")


@pytest.mark.parametrize("num_changed", [0, 1])
def test_where_tokens_before_the_boundary_changed_nothing_is_known_any_more(num_changed):
    row = Row("What is")
    row.push(" t")
    assert set(row.boundary.known) == {(), row.boundary.own_path}
    row.boundary.note_kept(len(row.track.alignment.ids) - len(row.boundary.own_path) - num_changed)
    row.push("h")
    assert (set(row.boundary.known) == {row.boundary.own_path}) == bool(num_changed)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_known_paths_always_lead_to_the_text_after_which_they_were_given(kind):
    row = Row("It", kind)
    given_after = {}
    for piece in ("", *TEXTS["latin"][:40]):
        row.push(piece)
        base = len(row.track.alignment.ids) - len(row.boundary.own_path)
        prefix = tuple(row.track.alignment.ids[:base])
        given_after[(*prefix, *row.boundary.own_path)] = float(row.given[0])
        for path, probs in row.boundary.known.items():
            assert given_after[(*prefix, *path)] == float(probs[0])


@pytest.mark.parametrize("kind", LOSSLESS)
def test_an_open_tail_is_the_longest_end_that_some_token_begins_with_and_goes_on(kind):
    vocabulary = load_toy(kind)
    prefixes = vocabulary.prefixes
    alignment = Alignment(vocabulary, vocabulary.encode_prompt("It"))
    for piece in TEXTS["latin"][:30] + "世界":
        alignment.append(piece)
        count, opened = alignment.open_tail(prefixes)
        usable = alignment.ids[max(len(vocabulary.prefix_ids), 1) :]
        ends = [vocabulary.join(usable[begin:]) for begin in range(len(usable) + 1)]
        longest = next(
            (end for end in ends if end and any(t and t.startswith(end) and t != end for t in vocabulary.tokens)), b""
        )
        assert opened == longest
        assert vocabulary.join(alignment.ids[len(alignment.ids) - count :]) == opened


def test_bytes_that_no_token_spells_yet_are_open():
    vocabulary = load_toy("llama without bytes")
    alignment = Alignment(vocabulary, vocabulary.encode_prompt("It"))
    alignment.append("", "世".encode()[:2])
    assert alignment.open_tail(vocabulary.prefixes)[1].endswith("世".encode()[:2])
    assert not alignment.ends_unknown
    alignment.append(" ☃")
    assert alignment.ends_unknown
    alignment.append("a")
    assert not alignment.ends_unknown


def test_what_was_foreseen_goes_along_with_the_text_apart_from_what_is_known():
    row = Row("What is")
    row.push(" the")
    the, question, other = (tokens_after(row, text) for text in (" the", "?", " dog"))
    after = tokens_after(row, "? It")
    foreseen = {(*the, *question): row.given + 0.5, (*the, *after): row.given + 1, other: row.given}
    row.boundary.foreseen.update(foreseen)
    row.push("?")
    left = after[len(question) :]
    assert row.boundary.foreseen.keys() == {(), left}
    torch.testing.assert_close(row.boundary.foreseen[left], foreseen[*the, *after])
    row.push(" dog")
    row.push(" It")
    assert not row.boundary.foreseen
