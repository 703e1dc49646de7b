"""Long prompts that are read in pieces while others are being answered."""

from __future__ import annotations

import time
from functools import partial

import pytest
import torch

from deepen_llm import FusionConfig, SamplingParams
from deepen_llm.decoding.prefill import FIRST_OF_SMALL, LEAST, MOST, Prefill
from deepen_llm.errors import MemberError
from tests.decoding.steps import STORY, make_members, make_sequence, make_stepper

TALE = " ".join([STORY] * 8)
METHODS = [{}, {"reading": "token"}, {"method": "text"}, {"method": "text", "fuse": "safe"}]


def sizes(member):
    """How many tokens each row was fed in each pass of a member."""
    return [[len(ids) for ids in fed.values()] for fed in member.passes]


def start(members, stepper):
    """A sequence that is being answered."""
    running = make_sequence(members, STORY[:9])
    assert stepper.run([running]).sequences == [running]
    accept(stepper, running)
    for member in members:
        member.passes.clear()
    return running


def accept(stepper, sequence):
    """Have a sequence take one token, as the engine has it."""
    sequence.accept(sequence.tracks[0].member.vocabulary.encode(" fox", at_start=False)[0], torch.zeros(1), None)


def test_a_long_prompt_is_read_in_pieces_while_another_is_answered_at_every_step(vocabularies):
    members = make_members(vocabularies)
    stepper = make_stepper(members, prefill_tokens=32, reading="token")
    running, late = start(members, stepper), make_sequence(members, TALE[:-9])
    prompts = [list(track.pending) for track in late.tracks]
    num_steps = 0
    while late.tracks[0].batch is None or late.tracks[1].is_reading or late.tracks[0].is_reading:
        result = stepper.run([running, late])
        num_steps += 1
        assert running in result.sequences and not result.failed
        assert (late in result.sequences) == (not any(track.is_reading for track in late.tracks))
        accept(stepper, running)
    assert num_steps == max(-(-len(ids) // 32) for ids in prompts) > 3
    for member, ids in zip(members, prompts, strict=True):
        pieces = [size for fed in sizes(member) for size in fed if size > 4]
        assert max(pieces) <= 32
        assert member.rows[max(member.rows)] == ids


@pytest.mark.parametrize("num", [1, 3])
def test_prompts_that_nobody_waits_for_are_not_cut(vocabularies, num):
    members = make_members(vocabularies)
    stepper = make_stepper(members, prefill_tokens=8)
    sequences = [make_sequence(members, TALE[: 80 + at]) for at in range(num)]
    assert stepper.run(sequences).sequences == sequences
    assert [[len(fed) for fed in member.passes] for member in members] == [[num], [num]]


def test_a_prompt_that_fits_into_a_step_joins_at_once_and_in_a_pass_of_its_own(vocabularies):
    members = make_members(vocabularies)
    stepper = make_stepper(members, prefill_tokens=8, reading="token")
    running, late = start(members, stepper), make_sequence(members, STORY[:9])
    assert max(len(track.pending) for track in late.tracks) <= 8
    assert stepper.run([running, late]).sequences == [running, late]
    assert [len(fed) for fed in members[0].passes] == [1, 1]


def test_prompts_share_what_a_step_reads_in_the_order_of_arrival(vocabularies):
    members = make_members(vocabularies)
    stepper = make_stepper(members, prefill_tokens=40, reading="token")
    running = start(members, stepper)
    first, second = make_sequence(members, TALE[:200]), make_sequence(members, TALE[:203])
    left = []
    while first.tracks[0].is_reading or second.tracks[0].is_reading:
        stepper.run([running, first, second])
        accept(stepper, running)
        left.append((len(first.tracks[0].pending), len(second.tracks[0].pending)))
        assert sum(size for fed in sizes(members[0])[-2:] for size in fed if size > 4) <= 40
    assert left[0][1] == len(members[0].vocabulary.encode_prompt(TALE[:203]).ids)
    assert [rest for rest, _ in left].index(0) <= [rest for _, rest in left].index(0)


@pytest.mark.parametrize("fusion", METHODS)
def test_what_follows_a_prompt_in_pieces_is_what_follows_it_whole(vocabularies, fusion):
    whole_members = make_members(vocabularies)
    whole = make_stepper(whole_members, **fusion)
    expected = whole.run([make_sequence(whole_members, TALE[:-9])]).logprobs
    members = make_members(vocabularies)
    stepper = make_stepper(members, prefill_tokens=24, **fusion)
    running, late = start(members, stepper), make_sequence(members, TALE[:-9])
    result = stepper.run([running, late])
    while late not in result.sequences:
        accept(stepper, running)
        result = stepper.run([running, late])
    torch.testing.assert_close(result.logprobs[1:], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [7, 24, 30])
@pytest.mark.parametrize("tells", [True, False])
def test_a_prompt_in_pieces_is_measured_as_a_whole_one(vocabularies, size, tells):
    found = []
    for prefill_tokens in (None, size):
        members = make_members(vocabularies)
        for member in members:
            member.confidence = 2.0
        if not tells:
            members[1]._measure = lambda *_: None
            forget(members[1])
        stepper = make_stepper(members, prefill_tokens=prefill_tokens)
        running = start(members, stepper) if prefill_tokens else None
        late = make_sequence(members, TALE[:300])
        for track in late.tracks:
            track.measure_prompt(40)
        while any(track.is_reading for track in late.tracks):
            stepper.run([late] if running is None else [running, late])
            if running is not None:
                accept(stepper, running)
        found.append([track.prompt for track in late.tracks])
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert one.ids == other.ids and len(one.logprobs) == len(other.logprobs) == 40
            assert list(one.logprobs) == pytest.approx(list(other.logprobs), abs=1e-5)
    assert [one is None for one in found[1]] == [False, not tells]


def forget(member):
    """Have a member tell nothing of what it is asked to measure."""
    start_extend = member.start_extend

    def start_untold(tokens, measured=None, *, temperature=1.0):
        del measured
        return start_extend(tokens, temperature=temperature)

    member.start_extend = start_untold


def test_a_member_that_fails_over_a_piece_fails_no_answer_that_runs(vocabularies):
    members = make_members(vocabularies)
    stepper = make_stepper(members, prefill_tokens=16)
    running, late = start(members, stepper), make_sequence(members, TALE[:200])

    def fail(fed):
        if max(map(len, fed.values())) > 8:
            raise RuntimeError("out of memory")

    members[1].before_pass = fail
    result = stepper.run([running, late])
    assert result.sequences == [running]
    assert isinstance(result.failed[late], MemberError)


LONG = "Once upon a time there was a girl. " * 20
DRAWN = FusionConfig(method="text", fuse="drawn")


def go_on(end_id, text, logits):
    """The logits with which the answer that the others run beside does not end."""
    return logits.index_fill(0, torch.tensor([end_id]), -30.0) if text.startswith(STORY[:4].encode()) else logits


@pytest.mark.parametrize("fusion", [FusionConfig(), FusionConfig(method="text", fuse="safe"), DRAWN])
def test_answers_are_the_same_whoever_is_answered_meanwhile(make_ensemble, fusion):
    params = SamplingParams(temperature=1.0, seed=5, max_new_tokens=12)
    ensembles = [
        make_ensemble([STORY, LONG], ("bpe", "sentencepiece"), fusion=fusion, weights="prompt", prefill_tokens=number)
        for number in (4096, 20)
    ]
    for ensemble in ensembles:
        for member in ensemble.members:
            member.confidence = 4.0
            member.context_length = 4096
            member.change = partial(go_on, member.vocabulary.eos_ids[0])
    prompts = [LONG[:300], LONG[:50], LONG[:401]]
    expected = [ensembles[0].generate(prompt, params).text for prompt in prompts]
    sizes_fed = []

    def watch(fed):
        sizes_fed.extend(map(len, fed.values()))

    with ensembles[1].stream(STORY[:4], SamplingParams(temperature=1.0, seed=1, max_new_tokens=200)) as stream:
        next(iter(stream))
        for member in ensembles[1].members:
            member.before_pass = watch
        answers = ensembles[1].generate(prompts, params)
    assert [answer.text for answer in answers] == expected
    assert 20 in sizes_fed


def test_a_structure_holds_after_a_prompt_in_pieces(make_ensemble):
    ensemble = make_ensemble([STORY, LONG], ("bpe", "sentencepiece"), prefill_tokens=20)
    params = SamplingParams(json_schema={"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]})
    with ensemble.stream(
        STORY[:4], SamplingParams(temperature=1.0, seed=1, max_new_tokens=300, ignore_eos=True)
    ) as one:
        next(iter(one))
        assert ensemble.generate(LONG[:300], params).text.startswith('{"a":')


def read(prefill, cost, num):
    """How many tokens a step reads, one after another, where so many tokens take `cost(num_tokens)` steps."""
    prefill.note_step(1.0)
    found = []
    for _ in range(num):
        found.append(prefill.num_tokens)
        prefill.note_pieces(prefill.num_tokens, cost(prefill.num_tokens))
    return found


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (lambda num: 0.01 * num, 128),
        (lambda num: 0.03 * num, 32),
        (lambda num: 1.0 + 0.001 * num, 256),
        (lambda num: 0.001 * num, 1024),
        (lambda num: 9.0, LEAST),
        (lambda num: 1e-6, MOST),
    ],
    ids=["as it was", "slow", "any pass takes a step", "fast", "nothing fits", "nothing is too much"],
)
def test_a_step_reads_as_many_tokens_as_take_a_given_share_of_a_step(cost, expected):
    found = read(Prefill(), cost, 60)
    assert found[0] == LEAST
    late = found[20:]
    assert sum(num == expected for num in late) >= 0.9 * len(late)
    assert max(late) <= 2 * expected


def test_a_piece_that_is_not_whole_teaches_nothing_and_a_given_number_stays():
    prefill, fixed = Prefill(), Prefill(100)
    prefill.note_step(1.0)
    prefill.note_pieces(LEAST - 1, 1e-6)
    assert prefill.num_tokens == LEAST
    assert set(read(fixed, lambda num: 9.0, 10)) == {100}


def test_what_a_step_takes_is_learned_where_nothing_begins_in_it_and_pieces_are_left_aside(vocabularies, monkeypatch):
    members = make_members(vocabularies)
    stepper = make_stepper(members, prefill_tokens=16)
    noted = []
    monkeypatch.setattr(stepper.feeder._prefill, "note_step", noted.append)
    running, late = make_sequence(members, STORY[:9]), make_sequence(members, TALE[:200])
    stepper.run([running])
    assert not noted
    accept(stepper, running)
    stepper.run([running])
    assert len(noted) == 1

    def sleep_over_pieces(fed):
        if max(map(len, fed.values())) == 16:
            time.sleep(0.3)

    members[0].before_pass = sleep_over_pieces
    accept(stepper, running)
    stepper.run([running, late])
    assert len(noted) == 2 and noted[-1] < 0.3


def test_small_members_begin_with_larger_pieces_unless_their_size_is_given():
    assert Prefill(are_small=True).num_tokens == FIRST_OF_SMALL > LEAST
    assert Prefill(20, are_small=True).num_tokens == 20
