"""Members that hardly count are put off, and nothing more changes than is promised."""

from __future__ import annotations

import math
import random

import pytest
import torch

from deepen_llm import FusionConfig, SamplingParams
from deepen_llm.decoding import resting
from deepen_llm.decoding.open_word import OpenWord, Said
from deepen_llm.decoding.resting import MOST, Rest, choose_resting, is_certain
from deepen_llm.errors import MemberError
from deepen_llm.weighting.adaptive import AdaptiveWeighting
from deepen_llm.weighting.base import FixedWeights

STORY = "The quick brown fox jumps over the lazy dog, and the cat sat on the mat until the sun went down."
OTHER = "The quick red car is fast, but nobody in the town has ever seen who drives it through the night."
KINDS = ("bpe", "sentencepiece")
BOTH = {"bpe": [STORY], "sentencepiece": [OTHER]}


def say(member, sure):
    member.confidence = sure
    return member


def adaptive(prior):
    return {"kind": "adaptive", "prior": prior}


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9])
def test_a_best_token_that_is_certain_stays_the_best_whatever_the_others_say(share):
    rng = random.Random(3)
    for _ in range(300):
        left = sorted((rng.random() ** 4 for _ in range(5)), reverse=True)
        left = [p / sum(left) for p in left]
        others = [0.0, 1.0, 0.0, 0.0, 0.0]
        together = [(1 - share) * p + share * q for p, q in zip(left, others, strict=True)]
        if is_certain(left[0], left[1], share):
            assert together[0] > together[1]
        elif share:
            assert together[0] <= together[1] + 1e-12


def test_who_rests_adds_up_to_no_more_than_is_allowed():
    word = OpenWord(FixedWeights((0.9985, 0.0004, 0.0004, 0.0003, 0.0004)), "")
    rest = choose_resting(word, None, range(1, 5), MOST)
    assert 3 in rest.members and len(rest.members) == 1  # each bounded by twice its weight where no word is open
    assert choose_resting(word, rest, range(1, 5), MOST) is rest
    assert choose_resting(word, rest, range(1, 5), 1e-4) is None


def test_the_bound_grows_with_all_that_was_said_and_never_falls_short():
    """Against the same request in which the member that rests was asked, and gave everything probability 1."""
    weighting = AdaptiveWeighting((0.9, 0.1), eta=0.3)
    word = OpenWord(weighting.begin(), "")
    for _ in range(12):
        word.retell(Said(b" it", (0.5, 1e-4), (math.nan,) * 2, (1.0, 1.0)))
    rest, asked = Rest(frozenset([1]), word), word.copy()
    assert rest.share == word.bound(1)
    for token in (b" is", b" so", b"me", b" day"):
        asked.weigh((0.6, 1.0))
        rest.note(Said(token, (0.2, math.nan), (math.nan,) * 2, (0.6, math.nan)))
        asked.take(token, (0.2, 0.9), (math.nan,) * 2)
        assert rest.share >= asked.bound(1) - 1e-15


@pytest.mark.parametrize("kinds", [KINDS, ("bpe", "bpe"), ("bpe", "unigram", "sentencepiece")])
def test_greedy_answers_are_those_in_which_nobody_rests(make_ensemble, kinds, monkeypatch):
    def answer():
        weights = adaptive((0.9, *[0.1 / (len(kinds) - 1)] * (len(kinds) - 1)))
        ensemble = make_ensemble([], kinds, texts_of={**BOTH, "unigram": [OTHER]}, weights=weights)
        for member in ensemble.members[1:]:
            say(member, 4.0)
        passes = [member.passes for member in ensemble.members]
        return ensemble.generate(STORY[:20]), [len(one) for one in passes]

    rested, num_passes = answer()
    monkeypatch.setattr(resting, "MOST", -1.0)
    monkeypatch.setattr("deepen_llm.decoding.sequence.MOST", -1.0)
    monkeypatch.setattr("deepen_llm.decoding.sequence.MOST_CHECKED", -1.0)
    asked, all_passes = answer()
    assert rested.token_ids == asked.token_ids and rested.text == STORY[20:]
    assert all(few < many for few, many in zip(num_passes[1:], all_passes[1:], strict=True))
    assert num_passes[0] == all_passes[0]


def test_scores_differ_by_no_more_than_is_promised(make_ensemble, monkeypatch):
    def score():
        ensemble = make_ensemble([], KINDS, texts_of=BOTH, weights=adaptive((0.9998, 0.0002)))
        return ensemble.score(STORY[:20], STORY[20:]), len(ensemble.members[1].passes)

    rested, num_passes = score()
    monkeypatch.setattr("deepen_llm.decoding.sequence.MOST", -1.0)
    asked, all_passes = score()
    assert num_passes < all_passes
    assert rested.logprob == pytest.approx(asked.logprob, abs=2 * MOST * rested.num_tokens)


@pytest.mark.parametrize("weights", [(1.0, 0.0), adaptive((1.0, 0.0))])
def test_a_member_without_weight_is_never_asked_and_no_error(make_ensemble, weights):
    ensemble = make_ensemble([], KINDS, texts_of=BOTH, weights=weights)
    generation = ensemble.generate(STORY[:20], SamplingParams(trace=True))
    assert generation.text == STORY[20:]
    silent = ensemble.members[1]
    assert not silent.passes and not silent.peeks and not silent.rows
    assert generation.fusion.weights == (1.0, 0.0)
    assert all(len(step.members) == 1 for step in generation.trace)


def test_a_member_that_was_right_all_along_is_found_out(make_ensemble):
    """It begins with next to nothing, and rests; the text is its own."""
    ensemble = make_ensemble(
        [], KINDS, texts_of={"bpe": [OTHER], "sentencepiece": [STORY]}, weights=adaptive((1 - 1e-6, 1e-6))
    )
    for member in ensemble.members:
        say(member, 5.0)
    score = ensemble.score("The", STORY[3:])
    assert score.fusion.weights[1] > 0.9
    assert len(ensemble.members[1].passes) < score.num_tokens


def test_a_member_that_fails_as_it_is_woken_is_named(make_ensemble):
    """It has rested, the main model is in doubt, and at that very step all that was said is fed to it."""
    ensemble = make_ensemble([], KINDS, texts_of=BOTH, weights=adaptive((0.97, 0.03)))
    main, other = ensemble.members
    second = main.vocabulary.encode(OTHER, at_start=False)[0]

    def doubt(text, logits):
        return logits.index_fill(0, torch.tensor([second]), float(logits.max()) - 0.01) if len(text) > 25 else logits

    main.change = doubt
    woken = []

    def fail(tokens):
        woken.extend(row for row, ids in tokens.items() if other.rows[row] and len(ids) > 1)
        if woken:
            raise OSError("gone")

    other.before_pass = fail
    with pytest.raises(MemberError, match=r"'sentencepiece' failed in a forward pass: OSError: gone"):
        ensemble.generate(STORY[:20])
    assert woken


def test_members_rest_row_by_row(make_ensemble):
    """In one batch, the member that is put off in one row is asked in the other."""
    ensemble = make_ensemble([], KINDS, texts_of=BOTH, weights=adaptive((0.6, 0.4)))
    prompts = [STORY[:24], OTHER[:24]]
    alone = [ensemble.generate(prompt) for prompt in prompts]
    together = ensemble.generate(prompts)
    assert [one.text for one in together] == [one.text for one in alone] and alone[0].text == STORY[24:]
    for left, right in zip(alone, together, strict=True):
        assert left.fusion.weights == pytest.approx(right.fusion.weights, abs=1e-3)


def test_token_by_token_nobody_with_weight_rests(make_ensemble):
    ensemble = make_ensemble([STORY], KINDS, weights=(0.9, 0.1), fusion=FusionConfig(reading="token"))
    generation = ensemble.generate(STORY[:20], SamplingParams(max_new_tokens=6))
    assert len(ensemble.members[1].passes) == len(ensemble.members[0].passes) == generation.usage.completion_tokens


def test_no_member_adds_more_than_its_bound_whatever_it_and_the_others_say():
    """Under weights that learn, with what was borrowed speaking against some, all of it against one."""
    rng = random.Random(11)
    for _ in range(300):
        word = OpenWord(AdaptiveWeighting((0.6, 0.3, 0.1), eta=rng.random()).begin(), "a")
        for _ in range(rng.randrange(1, 4)):
            begins = tuple(rng.uniform(0.01, 1) for _ in range(3))
            given = tuple(rng.uniform(1e-6, 1) * (1 - e) for e in begins)
            word.retell(Said(b"a", given, (math.nan, rng.choice([0.0, given[1] * rng.random()]), given[2]), begins))
        bounds = [word.bound(member) for member in range(3)]
        begins = [rng.uniform(1e-6, 1) ** rng.choice([1, 4]) for _ in range(3)]
        factors = word.weigh(begins)
        for member, e in enumerate(begins):
            adds = factors.begins[member] * e + factors.goes_on[member] * (1 - e)
            assert adds <= bounds[member] * (1 + 1e-9)
