"""Weights that each request gets from its own prompt."""

from __future__ import annotations

import math

import pytest
import torch

from deepen_llm import FusionConfig, SamplingParams
from deepen_llm.errors import MemberError, NumericalError
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.requests.deadline import Deadline
from deepen_llm.testing import ScriptedMember
from deepen_llm.weighting.prompt import MIN_BYTES, NUM_SKIPPED_BYTES, PromptWeighting

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


def in_bits(total, num_bytes):
    return -total / math.log(2) / num_bytes


def make_member(vocabularies, kind, measure):
    """A member that says of each token but the first what `measure` makes of the tokens."""
    member = ScriptedMember(vocabularies[kind], [])
    member.measure = lambda ids: torch.tensor(measure(ids))
    return member


def weigh(members, text=STORY, temperature=1.0):
    return weigh_ids(members, [member.vocabulary.encode_prompt(text).ids for member in members], temperature)


def weigh_ids(members, prompts, temperature=1.0):
    return PromptWeighting(list(map(GuardedMember, members)), temperature).begin(prompts).current


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_two_members_are_weighed_by_the_bits_that_a_byte_of_the_prompt_costs_them(vocabularies, temperature):
    knows, other = ScriptedMember(vocabularies["bpe"], [STORY]), ScriptedMember(vocabularies["bpe"], [OTHER])
    ids = vocabularies["bpe"].encode_prompt(STORY).ids
    sizes = [len(vocabularies["bpe"].tokens[token_id]) for token_id in ids]
    counted = [size for at, size in enumerate(sizes) if sum(sizes[:at]) >= NUM_SKIPPED_BYTES]
    # Whoever knows the text puts `confidence` logits on each next token, and the other as many on the end.
    apart = len(counted) * knows.confidence / math.log(2) / sum(counted)
    expected = 1 / (1 + math.exp(-apart / temperature))
    assert weigh([knows, other], temperature=temperature) == pytest.approx([expected, 1 - expected], abs=1e-4)
    assert weigh([other, knows], temperature=temperature) == pytest.approx([1 - expected, expected], abs=1e-4)


def test_the_same_cost_of_the_same_bytes_is_the_same_weight_in_however_many_tokens(vocabularies):
    def costs_a_nat_a_byte(vocabulary):
        return lambda ids: [-float(len(vocabulary.tokens[token_id] or b"")) for token_id in ids[1:]]

    members = [make_member(vocabularies, kind, costs_a_nat_a_byte(vocabularies[kind])) for kind in vocabularies]
    lengths = {len(member.vocabulary.encode_prompt(STORY).ids) for member in members}
    assert len(lengths) > 1
    assert weigh(members) == pytest.approx([1 / 3] * 3)


def test_how_a_text_begins_is_not_counted(vocabularies):
    def hates_beginnings(ids):
        begins = [sum(len(vocabularies["bpe"].tokens[i] or b"") for i in ids[:at]) for at in range(1, len(ids))]
        return [-1e6 if begin < NUM_SKIPPED_BYTES else -1.0 for begin in begins]

    one, other = (
        make_member(vocabularies, "bpe", measure) for measure in (hates_beginnings, lambda ids: [-1.0] * (len(ids) - 1))
    )
    assert weigh([one, other]) == (0.5, 0.5)


def test_special_and_unknown_tokens_are_not_counted(vocabularies):
    vocabulary = vocabularies["sentencepiece"]

    def hates_specials(ids):
        return [-1.0 if vocabulary.tokens[token_id] else -1e6 for token_id in ids[1:]]

    members = [
        make_member(vocabularies, "sentencepiece", measure)
        for measure in (hates_specials, lambda ids: [-1.0] * (len(ids) - 1))
    ]
    ids = list(vocabulary.encode_prompt(STORY).ids)
    ids.insert(9, next(iter(vocabulary.special_ids)))
    assert weigh_ids(members, [ids, ids]) == (0.5, 0.5)


@pytest.mark.parametrize("num_bytes", [1, NUM_SKIPPED_BYTES + MIN_BYTES - 1])
def test_a_prompt_too_short_to_tell_gives_uniform_weights_and_measures_nobody(vocabularies, num_bytes):
    members = [
        ScriptedMember(vocabularies[kind], [STORY], seed=at) for at, kind in enumerate(("bpe", "bpe", "unigram"))
    ]
    assert weigh(members, STORY[:num_bytes]) == (1 / 3,) * 3
    assert not any(member.measured for member in members)


def test_a_member_that_rules_the_prompt_out_gets_nothing_unless_all_do(vocabularies):
    sure = make_member(vocabularies, "bpe", lambda ids: [-1.0] * (len(ids) - 1))
    never = make_member(vocabularies, "bpe", lambda ids: [-math.inf] * (len(ids) - 1))
    assert weigh([sure, never]) == (1.0, 0.0)
    assert weigh([never, never]) == (0.5, 0.5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_each_request_is_answered_with_its_own_weights_as_if_they_were_given(make_ensemble, fusion):
    ensemble = make_experts(make_ensemble, fusion, weights={"kind": "prompt", "temperature": 2.0})
    params = SamplingParams(max_new_tokens=12, logprobs=0)
    for prompt, expert in ((STORY[:40], 0), (OTHER[:40], 1)):
        answer = ensemble.generate(prompt, params)
        assert answer.fusion.weights[expert] > 0.55 and sum(answer.fusion.weights) == pytest.approx(1)
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
    assert len({one.fusion.weights for one in together}) == 4
    assert together[1].fusion.weights == (0.5, 0.5)


def test_a_low_temperature_leaves_the_answer_to_whoever_knows_the_prompt(make_ensemble):
    ensemble = make_experts(make_ensemble, FusionConfig(method="text"), weights={"kind": "prompt", "temperature": 0.01})
    for member in ensemble.members:
        member.confidence = 8.0
    for text, cut, weights in ((STORY, " lazy", (1.0, 0.0)), (OTHER, " liked", (0.0, 1.0))):
        answer = ensemble.generate(text[: text.index(cut)], SamplingParams(max_new_tokens=100))
        assert answer.text.startswith(cut)
        assert answer.fusion.weights == pytest.approx(weights)


def test_a_prompt_is_measured_once_a_member(make_ensemble):
    ensemble = make_experts(make_ensemble)
    ensemble.generate([STORY[:40], OTHER[:40]])
    for member in ensemble.members:
        asked = [list(member.vocabulary.encode_prompt(text).ids) for text in (STORY[:40], OTHER[:40])]
        assert sorted(member.measured) == sorted(asked)


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
    assert make_ensemble([STORY], KINDS, weights=None).generate(STORY[:40]).fusion.weights == (0.5, 0.5)


def test_a_single_member_is_not_measured(make_ensemble):
    ensemble = make_ensemble([STORY], ("bpe",), weights="prompt")
    assert ensemble.generate(STORY[:40]).fusion.weights == (1.0,)
    assert not ensemble.members[0].measured


def test_nan_in_a_measured_prompt_fails_that_request_and_names_the_member(make_ensemble):
    ensemble = make_experts(make_ensemble)
    measured = ensemble.members[1].measure
    ensemble.members[1].measure = lambda ids: measured(ids).where(torch.tensor(ids[1:]) != ids[-1], torch.nan)
    with pytest.raises(NumericalError, match="NaN in what 'sentencepiece' makes of the prompt: try another dtype"):
        ensemble.generate(OTHER[:40])
    ensemble.members[1].measure = measured
    assert ensemble.generate(STORY[:40]).fusion.weights[0] > 0.5
    assert not any(member.rows for member in ensemble.members)


def test_a_member_that_fails_while_it_measures_fails_that_request_only(make_ensemble):
    ensemble = make_experts(make_ensemble)
    measure = ensemble.members[0].measure

    def fail(ids):
        if ensemble.members[0].text(ids).startswith(b"Once"):
            raise RuntimeError("out of memory")
        return measure(ids)

    ensemble.members[0].measure = fail
    futures = [ensemble._submit_prompt(text, None, Deadline(None)) for text in (STORY[:40], OTHER[:40])]
    with pytest.raises(MemberError, match="'bpe' failed while it measured the prompt: RuntimeError: out of memory"):
        futures[1].result()
    assert futures[0].result().text.startswith(STORY[40:50])
    assert not any(member.rows for member in ensemble.members)
