"""Weights that one request names for itself."""

from __future__ import annotations

import pytest

from deepen_llm import SamplingParams
from deepen_llm.errors import ConfigError
from deepen_llm.weighting.adaptive import AdaptiveWeighting
from deepen_llm.weighting.base import FixedWeighting, GivenWord
from deepen_llm.weighting.prompt import PromptWeighting

STORY = "The quick brown fox jumps over the lazy dog, and the cat sat on the mat."
OTHER = "The quick brown fox is a friend of mine, and so are all of the other animals."
KNOWN = {"bpe": [STORY], "sentencepiece": [OTHER]}
ASKED = STORY[:19]
SHORT = SamplingParams(max_new_tokens=6)


@pytest.fixture(params=[(0.5, 0.5), "adaptive", "prompt"])
def ensemble(make_ensemble, request):
    return make_ensemble([], texts_of=KNOWN, weights=request.param, fusion={"method": "text"})


def test_a_member_that_a_request_leaves_out_is_not_asked(ensemble):
    main, other = ensemble.members
    answer = ensemble.generate(ASKED, SHORT.replace(prior=(1.0, 0.0)))
    assert answer.fusion.weights == (1.0, 0.0)
    assert STORY.startswith(ASKED + answer.text)
    assert main.passes and not other.passes


def test_requests_of_one_batch_have_weights_of_their_own(make_ensemble, ensemble):
    priors = ((1.0, 0.0), (0.0, 1.0))
    streams = [ensemble.stream(ASKED, SHORT.replace(prior=prior)) for prior in priors]
    texts = ["".join(chunk.text for chunk in stream) for stream in streams]
    fixed = [make_ensemble([], texts_of=KNOWN, weights=prior, fusion={"method": "text"}) for prior in priors]
    assert texts == [one.generate(ASKED, SHORT).text for one in fixed]
    assert texts[0] != texts[1]


def test_without_one_the_ensembles_own_weights_count(ensemble):
    assert ensemble.generate(ASKED, SHORT.replace(prior=(0.9, 0.1))).text
    again = ensemble.generate(ASKED, SHORT)
    assert again.fusion.weights != (0.9, 0.1)


def test_fixed_weights_stay_as_the_request_names_them():
    weights = FixedWeighting([0.5, 0.5]).begin_with((0.2, 0.8))
    assert weights.after_word([0.9, 0.1]).current == (0.2, 0.8)


def test_weights_that_learn_go_on_from_there_as_from_their_own_prior():
    named, own = AdaptiveWeighting((0.5, 0.5)).begin_with((0.2, 0.8)), AdaptiveWeighting((0.2, 0.8)).begin()
    assert named.current == pytest.approx((0.2, 0.8))
    assert named.after_word([0.9, 0.1]).current == own.after_word([0.9, 0.1]).current


def test_weights_by_the_prompt_take_it_as_bayes_does():
    words, prior = [GivenWord(40, (-60.0, -50.0))], (0.25, 0.75)
    uniform = PromptWeighting(2, 1.0).begin().after_prompt(words).current
    named = PromptWeighting(2, 1.0).begin_with(prior).after_prompt(words).current
    product = [weight * one for weight, one in zip(uniform, prior, strict=True)]
    assert named == pytest.approx([weight / sum(product) for weight in product])
    assert PromptWeighting(2, 1.0).begin_with((1.0, 0.0)).after_prompt(words).current == (1.0, 0.0)


def test_weights_of_more_or_fewer_members_are_refused(ensemble):
    with pytest.raises(ConfigError, match=r"prior must have one weight a member, .*: 2 members, got 1 weights"):
        ensemble.generate(ASKED, SHORT.replace(prior=(1.0,)))


@pytest.mark.parametrize("prior", [(0.5, 0.6), (-0.5, 1.5), (float("nan"), 1.0), ()])
def test_weights_that_are_no_distribution_are_refused(prior):
    with pytest.raises(ConfigError, match="the weights of prior must"):
        SamplingParams(prior=prior)
