"""Weights that each request gets from its own prompt."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest
import torch

from deepen_llm import Ensemble, EnsembleConfig, FusionConfig, SamplingParams
from deepen_llm.decoding.prompt_words import num_to_measure
from deepen_llm.errors import NumericalError
from deepen_llm.requests.deadline import Deadline
from deepen_llm.testing import ScriptedMember
from deepen_llm.vocabulary.words import split_words
from deepen_llm.weighting.base import GivenWord
from deepen_llm.weighting.prompt import MIN_BYTES, PromptWeighting

STORY = "The quick brown fox jumps over the lazy dog, and the cat sat on the mat."
OTHER = "Once upon a time there was a girl who liked to sing, and a boy who liked to run."
SHORT = "Once upon a"
KINDS = ("bpe", "sentencepiece")
FUSIONS = [
    FusionConfig(reading="token"),
    FusionConfig(reading="text"),
    FusionConfig(reading="token", fuse="safe"),
    FusionConfig(method="text"),
    FusionConfig(method="union"),
    FusionConfig(method="equal_text", mean="geometric"),
]


def make_experts(make_ensemble, fusion=None, **settings):
    """The main model knows one text and the other member another; both say little of what they do not know."""
    settings = {"weights": "prompt", "fusion": fusion or FusionConfig(), **settings}
    ensemble = make_ensemble([], KINDS, texts_of={"bpe": [STORY], "sentencepiece": [OTHER]}, **settings)
    for member in ensemble.members:
        member.confidence = 3.0
    return ensemble


def weigh(words, temperature=1.0, num_members=2):
    return PromptWeighting(num_members, temperature).begin().after_prompt(words).current


def counted(vocabulary, text):
    """How many tokens and bytes of a prompt count: from the first end of a word that is measured to the last."""
    ends = list(accumulate(len(vocabulary.tokens[token_id]) for token_id in vocabulary.encode_prompt(text).ids))
    measured = ends[-num_to_measure(len(ends)) - 1 :]
    first, last = (edge([end for end in split_words(text) if end in measured]) for edge in (min, max))
    return measured.index(last) - measured.index(first), last - first


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_two_members_are_weighed_by_the_bits_that_a_byte_of_the_prompt_costs_them(make_ensemble, temperature):
    weights = {"kind": "prompt", "temperature": temperature}
    ensemble = make_ensemble([], ("bpe", "bpe"), weights=weights)
    knows, other = ensemble.members
    knows.texts, other.texts = [STORY.encode()], [OTHER.encode()]
    num_tokens, num_bytes = counted(knows.vocabulary, STORY)
    assert num_bytes >= MIN_BYTES and num_tokens > 10
    # Whoever knows the text puts `confidence` logits on each next token, and the other as many on the end.
    apart = num_tokens * knows.confidence / math.log(2) / num_bytes
    expected = 1 / (1 + math.exp(-apart / temperature))
    report = ensemble.generate(STORY, SamplingParams(max_new_tokens=1)).fusion
    assert report.weights == pytest.approx((expected, 1 - expected), abs=1e-4)


@pytest.mark.parametrize("temperature", [0.2, 3.0])
def test_weights_are_the_softmax_of_the_bits_of_a_byte(temperature):
    words = [GivenWord(10, (-3.0, -5.0, -8.0)), GivenWord(20, (-9.0, -2.0, -30.0))]
    bits = [nats / math.log(2) / 30 for nats in (12.0, 7.0, 38.0)]
    shares = [math.exp(-cost / temperature) for cost in bits]
    assert weigh(words, temperature, 3) == pytest.approx([share / sum(shares) for share in shares])


def test_the_same_words_in_other_portions_are_the_same_weights():
    whole = weigh([GivenWord(30, (-10.0, -14.0))])
    parts = [GivenWord(10, (-1.0, -8.0)), GivenWord(5, (-5.0, -2.0)), GivenWord(15, (-4.0, -4.0))]
    assert weigh(parts) == pytest.approx(whole)


@pytest.mark.parametrize("sizes", [(), (1,), (MIN_BYTES - 1,), (MIN_BYTES // 2, MIN_BYTES // 2 - 1)])
def test_too_few_bytes_to_tell_give_uniform_weights(sizes):
    assert weigh([GivenWord(size, (-1.0, -90.0, -5.0)) for size in sizes], num_members=3) == (1 / 3,) * 3
    assert weigh([GivenWord(MIN_BYTES, (-1.0, -90.0, -5.0))], 0.05, num_members=3)[0] > 0.9


def test_a_member_that_rules_the_prompt_out_gets_nothing_unless_all_do():
    sure, never = -1.0, -math.inf
    assert weigh([GivenWord(30, (sure, never)), GivenWord(5, (sure, sure))]) == (1.0, 0.0)
    assert weigh([GivenWord(30, (never, never))]) == (0.5, 0.5)


def test_weights_stay_as_they_are_once_the_prompt_is_read():
    assert PromptWeighting.reads_prompt
    begun = PromptWeighting(2, 1.0).begin()
    weights = begun.after_prompt([GivenWord(30, (-10.0, -14.0))])
    assert weights.after_word((0.1, 0.9)).current == weights.current != begun.current == (0.5, 0.5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_each_request_is_answered_with_its_own_weights_as_if_they_were_given(make_ensemble, fusion):
    ensemble = make_experts(make_ensemble, fusion, weights={"kind": "prompt", "temperature": 2.0})
    params = SamplingParams(max_new_tokens=12, logprobs=0)
    for prompt, expert in ((STORY[:40], 0), (OTHER[:40], 1)):
        answer = ensemble.generate(prompt, params)
        if answer.fusion.num_fused:
            assert answer.fusion.weights[expert] > 0.55 and sum(answer.fusion.weights) == pytest.approx(1)
        else:  # nobody was asked, so that nothing is known
            assert fusion.fuse == "safe" and answer.fusion.weights == (0.5, 0.5)
        given = make_experts(make_ensemble, fusion, weights=answer.fusion.weights).generate(prompt, params)
        assert answer.token_ids == given.token_ids
        assert [one.logprob for one in answer.logprobs] == pytest.approx(
            [one.logprob for one in given.logprobs], abs=1e-4
        )


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_rows_of_a_batch_keep_their_own_weights(make_ensemble, fusion):
    ensemble = make_experts(make_ensemble, fusion)
    prompts, params = [STORY[:40], SHORT, OTHER[:40], STORY[:50]], SamplingParams(max_new_tokens=12)
    alone = [ensemble.generate(prompt, params) for prompt in prompts]
    together = ensemble.generate(prompts, params)
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]
    assert [one.fusion for one in together] == [one.fusion for one in alone]
    assert len({one.fusion.weights for one in together}) == (3 if fusion.fuse == "safe" else 4)
    assert together[1].fusion.weights == (0.5, 0.5)


def test_a_low_temperature_leaves_the_answer_to_whoever_knows_the_prompt(make_ensemble):
    ensemble = make_experts(make_ensemble, FusionConfig(method="text"), weights={"kind": "prompt", "temperature": 0.01})
    for member in ensemble.members:
        member.confidence = 8.0
    for text, cut, weights in ((STORY, " lazy", (1.0, 0.0)), (OTHER, " liked", (0.0, 1.0))):
        answer = ensemble.generate(text[: text.index(cut)], SamplingParams(max_new_tokens=100))
        assert answer.text.startswith(cut)
        assert answer.fusion.weights == pytest.approx(weights)


def test_the_last_tokens_of_a_prompt_are_measured_once_a_member_as_it_is_fed(make_ensemble):
    ensemble = make_experts(make_ensemble, FusionConfig(method="text"))
    ensemble.generate([STORY[:40], OTHER[:40]])
    for member in ensemble.members:
        prompts = [list(member.vocabulary.encode_prompt(text).ids) for text in (STORY[:40], OTHER[:40])]
        asked = [ids[-min(num_to_measure(len(ids)), len(ids) - 1) :] for ids in prompts]
        assert [tail for tail in member.measured if len(tail) > 8] == asked
        fed = [ids for one in member.passes for ids in one.values()]
        assert all(fed.count(ids) == 1 for ids in prompts)
    assert all(len(tail) > 8 for tail in ensemble.members[0].measured)  # of the main model nothing else is


class Silent(ScriptedMember):
    """Measures nothing."""

    def start_extend(self, tokens, measured=None):
        return super().start_extend(tokens)


@pytest.mark.parametrize("silent", [0, 1])
@pytest.mark.parametrize("weights", ["prompt", "adaptive"])
def test_where_a_member_does_not_measure_weights_stay_those_of_the_start(vocabularies, weights, silent):
    members = [
        (Silent if at == silent else ScriptedMember)(vocabularies[kind], [STORY, OTHER], seed=at)
        for at, kind in enumerate(KINDS)
    ]
    config = EnsembleConfig(members=KINDS, weights=weights)
    with Ensemble(members, config) as ensemble:
        members[1].texts = [OTHER.encode()]
        answer = ensemble.generate(STORY[:40], SamplingParams(max_new_tokens=1))
        assert answer.fusion.weights == (0.5, 0.5)
        assert answer.text


def test_a_score_is_weighed_by_its_context(make_ensemble):
    ensemble = make_experts(make_ensemble)
    score = ensemble.score(OTHER[:40], OTHER[40:60])
    weights = ensemble.generate(OTHER[:40]).fusion.weights
    assert score.fusion.weights == weights
    given = make_experts(make_ensemble, weights=weights).score(OTHER[:40], OTHER[40:60])
    assert score.logprob == pytest.approx(given.logprob, abs=1e-4)


def test_a_stream_ends_with_the_weights(make_ensemble):
    chunks = list(make_experts(make_ensemble).stream(STORY[:40]))
    assert chunks[-1].fusion.weights[0] > 0.5


def test_weights_that_hold_for_every_request_are_reported_too(make_ensemble):
    assert make_ensemble([STORY], KINDS, weights=(0.9, 0.1)).generate(STORY[:40]).fusion.weights == (0.9, 0.1)
    assert make_ensemble([STORY], KINDS, weights=(0.5, 0.5)).generate(STORY[:40]).fusion.weights == (0.5, 0.5)


def test_the_prompt_of_a_single_member_is_not_measured(make_ensemble):
    ensemble = make_ensemble([STORY], ("bpe",), weights="prompt")
    assert ensemble.generate(STORY[:40]).fusion.weights == (1.0,)
    assert sum(map(len, ensemble.members[0].measured)) == 0


@pytest.mark.parametrize("weights", ["prompt", "adaptive"])
@pytest.mark.parametrize("spoiled", [0, 1])
def test_nan_in_a_measured_prompt_fails_that_request_and_names_the_member(make_ensemble, weights, spoiled):
    ensemble = make_experts(make_ensemble, weights=weights)
    member = ensemble.members[spoiled]
    member.change = lambda text, logits: logits * torch.nan if text == OTHER[:36].encode() else logits
    params = SamplingParams(max_new_tokens=3)
    assert any(member.text(member.vocabulary.encode(OTHER[:40])[:at]) == OTHER[:36].encode() for at in range(40))
    futures = [ensemble._intake.submit_prompt(text, params, Deadline(None))[0] for text in (STORY[:40], OTHER[:40])]
    with pytest.raises(NumericalError, match=f"^NaN or infinity in the logits of '{KINDS[spoiled]}' at step 0: try"):
        futures[1].result()
    assert futures[0].result().fusion.weights[0] > 0.5
    assert not any(member.rows for member in ensemble.members)
    member.change = lambda text, logits: logits
    assert ensemble.generate(OTHER[:40], params).fusion.weights[1] > 0.5


def test_a_member_that_says_nothing_of_the_prompt_keeps_its_weight_and_the_others_share_the_rest():
    words = [GivenWord(30, (-20.0, math.nan, -10.0))]
    first, silent, last = PromptWeighting(3, 0.2).begin().after_prompt(words).current
    assert silent == pytest.approx(1 / 3)
    alone = PromptWeighting(2, 0.2).begin().after_prompt([GivenWord(30, (-20.0, -10.0))]).current
    assert (first, last) == pytest.approx([weight * 2 / 3 for weight in alone])
