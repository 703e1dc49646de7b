"""What is known of a text beyond its end."""

from __future__ import annotations

import pytest
import torch

from deepen_llm import Ensemble, FusionConfig, SamplingParams
from deepen_llm.config import EnsembleConfig
from deepen_llm.decoding.outlook import MOST_TOKENS, look_ahead
from deepen_llm.decoding.speculation.read_ahead import Place
from deepen_llm.decoding.track import Track
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.testing import ScriptedMember
from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers

STORY = "The quick brown fox jumps over the lazy dog. The quick brown dog jumps over the lazy fox."


@pytest.fixture(scope="module")
def letters():
    """A vocabulary of bytes alone."""
    return Vocabulary.from_tokenizer(toy_tokenizers.byte_level_bpe(size=259), name="letters")


def begin(vocabulary, prompt="The", ahead=""):
    """A track that was fed a prompt, and has read ahead."""
    member = ScriptedMember(vocabulary, [STORY], tells_each=True)
    track = Track(GuardedMember(member), vocabulary.encode_prompt(prompt), takes_main_tokens=False)
    track.note_fed(member.extend({track.row: track.pending}), 0)
    track.reach_text(torch.zeros(len(vocabulary)))
    ids = vocabulary.encode(ahead, at_start=False)
    if ids:
        logits = [member.extend({track.row: [token_id]}) for token_id in ids]
        track.ahead = track.ahead.extended(ids, [Place(one, 0) for one in logits])
    return track


def look(track, main):
    outlook = look_ahead(track, main, lambda logits: logits.softmax(dim=-1), lambda logits: logits.softmax(dim=-1))
    return outlook, list(outlook.look())


def test_what_was_read_ahead_answers_for_every_path_along_it(letters, vocabularies):
    track, main = begin(letters, ahead=" quick"), begin(vocabularies["bpe"])
    outlook, later = look(track, main)
    assert {letters.join(path) for path in outlook.answers} == {b" quick"[:end] for end in range(1, 7)}
    for path, probs in outlook.answers.items():
        torch.testing.assert_close(probs, track.ahead.places[len(path) - 1].logits.softmax(dim=-1))
    assert later == []


def test_places_to_come_are_where_a_token_of_both_ends_in_the_text_that_both_have_read(letters, vocabularies):
    bpe = vocabularies["bpe"]
    track, main = begin(letters, ahead=" quick bro"), begin(bpe, ahead=" quick brown")
    _, later = look(track, main)
    ends = [bpe.join(main.ahead.ids[: end + 1]) for end in range(len(main.ahead.ids))]
    assert [letters.join(place.path) for place in later] == [text for text in ends if b" quick bro".startswith(text)]
    assert later
    for place in later:
        at = ends.index(letters.join(place.path))
        torch.testing.assert_close(place.expected, main.ahead.places[at].logits.softmax(dim=-1))


def test_members_that_have_read_ahead_other_texts_have_no_place_to_come_in_common(letters, vocabularies):
    _, later = look(begin(letters, ahead=" quick"), begin(vocabularies["bpe"], ahead=" lazy"))
    assert later == []


def test_only_so_much_of_a_long_way_ahead_is_looked_at(letters, vocabularies):
    text = STORY[3 : 3 + MOST_TOKENS + 8]
    outlook, _ = look(begin(letters, ahead=text), begin(vocabularies["bpe"]))
    assert max(map(len, outlook.answers)) == MOST_TOKENS


def test_a_branch_feeds_only_what_the_row_does_not_hold(letters):
    track = begin(letters, ahead=" quick")
    before = list(track.member.member.rows[track.row])
    for text in (" q", " quick", " quirky", " quick brown", "x"):
        path = tuple(letters.encode(text, at_start=False))
        _, num_back, ids = track.branch(path)
        assert ids and [*before[: len(before) - num_back], *ids] == [*before[: track.num_fed], *path]
    assert len(track.branch(tuple(letters.encode(" quirky", at_start=False))).ids) == 3


@pytest.mark.parametrize("prompt", [STORY[:8], STORY[:20]])
def test_members_that_read_ahead_are_asked_in_fewer_passes_and_the_answer_is_the_same(letters, vocabularies, prompt):
    answers = []
    for num_ahead in (0, 8):
        members = [
            ScriptedMember(vocabulary, [STORY], tells_each=True) for vocabulary in (vocabularies["bpe"], letters)
        ]
        config = EnsembleConfig(
            members=("bpe", "letters"),
            fusion=FusionConfig(method="text"),
            weights=(0.7, 0.3),
            num_speculative_tokens=num_ahead,
        )
        with Ensemble(members, config) as ensemble:
            answer = ensemble.generate(prompt, SamplingParams(max_new_tokens=60, logprobs=0))
        assert answer.fusion.num_extra_passes == len(members[1].peeks) > 0
        assert answer.fusion.num_extra_rows == sum(map(len, members[1].peeks))
        answers.append(answer)
    alone, ahead = answers
    assert ahead.text == alone.text == STORY[len(prompt) :]
    assert ahead.token_ids == alone.token_ids
    assert [c.logprob for c in ahead.logprobs] == pytest.approx([c.logprob for c in alone.logprobs], abs=1e-5)
    assert ahead.fusion.num_extra_passes < alone.fusion.num_extra_passes


def test_what_came_after_tokens_that_were_fed_together_is_told_without_a_pass(letters, vocabularies):
    track = begin(letters)
    num_before = track.num_fed
    track.push(0, " qu", b"")
    logits = track.member.member.start_extend_each({track.row: track.pending}, {track.row: 3}).result()
    assert track.num_told == 3
    track.note_read_ahead(logits, 0)
    assert [(number, place.row) for number, place in track.told.items()] == [(num_before + 1, 0), (num_before + 2, 1)]
    track.boundary.move(track.alignment, torch.zeros(len(letters)))
    track.boundary.num_before = num_before
    outlook, _ = look(track, begin(vocabularies["bpe"]))
    texts = {letters.join(path): probs for path, probs in outlook.answers.items()}
    assert texts.keys() == {b" ", b" q"}
    torch.testing.assert_close(texts[b" q"], logits[1].softmax(dim=-1))


def test_what_was_told_is_forgotten_with_the_boundary_and_with_tokens_that_are_cut_anew(letters):
    track = begin(letters)
    track.push(0, " qu", b"")
    logits = track.member.member.start_extend_each({track.row: track.pending}, {track.row: 3}).result()
    track.note_read_ahead(logits, 0)
    track.reach_text(logits[2])
    assert not track.told
    track.told = dict.fromkeys(range(1, track.num_fed), Place(logits, 0))
    track.alignment.append = lambda text, open_bytes: 3
    track.push(0, "x", b"")
    assert list(track.told) == [1, 2, 3]


def test_members_are_told_all_of_what_they_are_fed_where_they_are_projected(letters, vocabularies):
    members = [ScriptedMember(one, [STORY], tells_each=True) for one in (vocabularies["bpe"], letters)]
    told = []
    start = members[1].start_extend_each

    def watch(tokens, num_told):
        told.extend((len(ids), num_told[row]) for row, ids in tokens.items())
        return start(tokens, num_told)

    members[1].start_extend_each = watch
    config = EnsembleConfig(members=("bpe", "letters"), num_speculative_tokens=0)
    with Ensemble(members, config) as ensemble:
        assert ensemble.generate(STORY[:8], SamplingParams(max_new_tokens=30)).text
    assert told and all(num == told_of for num, told_of in told)
