"""Evidence before the first word: no pass of its own, and it decides between members that are far apart."""

from __future__ import annotations

import pytest

from deepen_llm import SamplingParams

STORY = "The quick brown fox jumps over the lazy dog, and the cat sat on the mat until the sun went down."
OTHER = "The quick red car is fast, but nobody in the town has ever seen who drives it through the night."
BOTH = {"bpe": [STORY], "sentencepiece": [OTHER]}
KINDS = ("bpe", "sentencepiece")


def test_the_prompt_is_read_in_the_pass_that_runs_anyway(make_ensemble):
    fixed = make_ensemble([], KINDS, texts_of=BOTH, weights=(0.5, 0.5))
    learning = make_ensemble([], KINDS, texts_of=BOTH, weights={"kind": "adaptive", "prior": (0.5, 0.5)})
    for ensemble in (fixed, learning):
        ensemble.generate(STORY[:60], SamplingParams(max_new_tokens=1))
    for one, other in zip(fixed.members, learning.members, strict=True):
        assert len(one.passes) == len(other.passes) == 1
        assert len(other.measured[0]) > len(one.measured[0]) if one.measured else other.measured


@pytest.mark.parametrize(("text", "expert"), [(STORY, 0), (OTHER, 1)])
def test_who_knows_the_prompt_leads_from_the_first_token_on(make_ensemble, text, expert):
    ensemble = make_ensemble([], KINDS, texts_of=BOTH, weights={"kind": "adaptive", "prior": (0.5, 0.5)})
    trace = ensemble.generate(text[:60], SamplingParams(max_new_tokens=2, trace=True)).trace
    assert trace[0].weights[expert] > 0.8


def test_a_prompt_of_one_byte_says_nothing(make_ensemble):
    ensemble = make_ensemble([], KINDS, texts_of=BOTH, weights={"kind": "adaptive", "prior": (0.3, 0.7)})
    trace = ensemble.generate("T", SamplingParams(max_new_tokens=1, trace=True)).trace
    assert trace[0].weights == pytest.approx((0.3, 0.7))
