"""One step of a batch of scripted members."""

from __future__ import annotations

import pytest
import torch

from deepen_llm.errors import MemberError, NumericalError
from deepen_llm.members.base import Pending
from tests.decoding.steps import STORY, make_members, make_sequence, make_stepper
from tests.rounding import rounding


def best_text(members, row):
    return members[0].vocabulary.tokens[int(row.argmax())]


@pytest.mark.parametrize("fusion", [{}, {"reading": "token"}, {"method": "text"}, {"method": "union"}])
def test_a_step_gives_one_normalized_distribution_per_sequence(vocabularies, fusion):
    members = make_members(vocabularies)
    sequences = [make_sequence(members, STORY[:cut]) for cut in (9, 15)]
    result = make_stepper(members, **fusion).run(sequences)
    assert result.sequences == sequences and not result.failed
    assert result.logprobs.shape == (2, len(members[0].vocabulary))
    torch.testing.assert_close(result.logprobs.exp().sum(dim=-1), torch.ones(2), atol=1e-4, rtol=0)
    for sequence, row, cut in zip(sequences, result.logprobs, (9, 15), strict=True):
        assert STORY[cut:].encode().startswith(best_text(members, row))
        assert sequence.is_fused


def test_every_member_runs_one_pass_over_all_rows(vocabularies):
    members = make_members(vocabularies)
    make_stepper(members, reading="token").run([make_sequence(members, STORY[:cut]) for cut in (9, 15, 20)])
    assert [[len(tokens) for tokens in member.passes] for member in members] == [[3], [3]]


def test_passes_of_all_members_are_started_before_any_result_is_taken(vocabularies):
    members, seen = make_members(vocabularies), []

    class Watched(Pending):
        def __init__(self, name, pending):
            self.name, self.pending = name, pending
            seen.append(("start", name))

        def result(self):
            seen.append(("result", self.name))
            return self.pending.result()

    for member in members:
        start = member.start_extend

        def watched(tokens, measured=None, member=member, start=start):
            return Watched(member.name, start(tokens, measured))

        member.start_extend = watched
    make_stepper(members).run([make_sequence(members)])
    assert seen == [("start", "bpe"), ("start", "sentencepiece"), ("result", "bpe"), ("result", "sentencepiece")]


def test_the_batch_that_a_member_returned_is_used_as_it_is(vocabularies):
    members = make_members(vocabularies)
    stepper = make_stepper(members)
    sequences = [make_sequence(members, STORY[:cut]) for cut in (9, 15)]
    stepper.run(sequences)
    assert stepper._gather(0, sequences) is sequences[0].tracks[0].batch
    backwards = stepper._gather(0, sequences[::-1])
    torch.testing.assert_close(backwards, sequences[0].tracks[0].batch.flip(0), atol=0, rtol=0)


@pytest.mark.parametrize("broken", [0, 1])
def test_a_member_that_fails_fails_every_sequence_that_it_was_asked_for(vocabularies, broken):
    members = make_members(vocabularies)

    def fail(tokens):
        raise ValueError("no memory")

    members[broken].start_extend = fail
    sequences = [make_sequence(members, STORY[:cut]) for cut in (9, 15)]
    result = make_stepper(members).run(sequences)
    assert result.sequences == [] and set(result.failed) == set(sequences)
    for error in result.failed.values():
        assert isinstance(error, MemberError) and members[broken].name in str(error)


@pytest.mark.parametrize("fuse", ["always", "safe"])
@pytest.mark.parametrize("broken", [0, 1])
def test_numbers_that_are_none_fail_their_own_row_only(vocabularies, fuse, broken):
    members = make_members(vocabularies)
    members[broken].change = lambda text, logits: logits * float("nan") if text.endswith(b"fox") else logits
    settings = {"fuse": "safe", "confidence": 1.0} if fuse == "safe" else {}
    sound, bad = make_sequence(members, "The quick"), make_sequence(members, "The quick brown fox")
    result = make_stepper(members, reading="token", **settings).run([bad, sound])
    assert result.sequences == [sound]
    assert isinstance(result.failed[bad], NumericalError) and members[broken].name in str(result.failed[bad])
    assert STORY[9:].encode().startswith(best_text(members, result.logprobs[0]))


def test_what_each_member_gave_the_chosen_tokens_is_told_for_fused_sequences(vocabularies):
    members = make_members(vocabularies)
    sequences = [make_sequence(members, STORY[:9]), make_sequence(members, STORY[:15])]
    result = make_stepper(members, method="text").run(sequences)
    chosen = result.logprobs.argmax(dim=-1).tolist()
    for given, row, token_id in zip(result.given(chosen), result.logprobs, chosen, strict=True):
        assert len(given) == 2 and all(0.7 < prob <= 1 for prob in given)
        assert sum(given) / 2 == pytest.approx(float(row[token_id].exp()), abs=rounding(700, 4))


def test_what_was_left_to_the_main_model_tells_nothing_of_the_others(vocabularies):
    members = make_members(vocabularies)
    result = make_stepper(members, fuse="safe", confidence=0.01).run([make_sequence(members)])
    assert result.given([0]) == [None]
    assert not members[1].passes


@pytest.mark.parametrize("broken", [0, 1])
def test_a_prompt_that_fails_a_member_fails_no_answer_that_runs(vocabularies, broken):
    members = make_members(vocabularies)
    stepper = make_stepper(members)
    running, new = make_sequence(members, STORY[:9]), make_sequence(members, STORY[:15])
    stepper.run([running])
    running.accept(members[0].vocabulary.encode(STORY[9:], at_start=False)[0], torch.zeros(1), None)

    def fail_at_a_beginning(tokens):
        if any(len(members[broken].rows[row]) == 0 for row in tokens):
            raise MemoryError("no room for the prompt")

    members[broken].before_pass = fail_at_a_beginning
    result = stepper.run([running, new])
    assert result.sequences == [running]
    assert "no room for the prompt" in str(result.failed[new])


@pytest.mark.parametrize("broken", [0, 1])
def test_a_row_that_cannot_be_opened_fails_its_sequence_only(vocabularies, broken):
    members = make_members(vocabularies)
    first, second = make_sequence(members, STORY[:9]), make_sequence(members, STORY[:15])
    opened, open_row = iter([True, False]), members[broken].open
    members[broken].open = lambda: open_row() if next(opened) else None
    result = make_stepper(members).run([first, second])
    assert result.sequences == [first]
    assert isinstance(result.failed[second], MemberError)
