"""Steps that are left to the main model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from deepen_llm import FusionConfig, SamplingParams
from deepen_llm.decoding.gating import FuseWhenUnsure
from deepen_llm.decoding.track import Track
from deepen_llm.errors import MemberError, NumericalError
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.testing import ScriptedMember

STORY = "The quick brown fox jumps over the lazy dog. Привет, мир! 今天 👍🏽 naïve café"
OTHER = "Once upon a time there was a girl."
TEXTS = [STORY, OTHER]
CASES = [("token", "relative"), ("text", "relative"), ("text", "text"), ("token", "union")]


def make_fusion(reading="token", method="relative", **settings):
    """`reading` is a setting of relative fusion only; everything goes through its space."""
    if method == "relative":
        settings |= {"reading": reading} | ({"maps": "all"} if reading == "text" else {})
    return FusionConfig(method=method, **settings)


def safe(reading="token", method="relative", **settings):
    return make_fusion(reading, method, fuse="safe", **settings)


def fed_to(member):
    return [ids for one in member.passes for ids in one.values()]


def is_open(vocabulary, text):
    """Whether the text ends inside a token of the vocabulary: some end of its tokens begins a longer one."""
    ids = vocabulary.encode(text)[1 if not vocabulary.prefix_ids else 0 :]
    prefixes = vocabulary.prefixes
    ends = [vocabulary.join(ids[begin:]) for begin in range(len(ids))]
    return any(prefixes.has_longer(end) for end in ends)


@pytest.mark.parametrize(("reading", "method"), CASES)
@pytest.mark.parametrize("kinds", [("bpe", "sentencepiece"), ("sentencepiece", "bpe", "unigram")])
def test_members_that_agree_say_the_same_as_when_every_step_is_fused(make_ensemble, reading, method, kinds):
    always = make_ensemble(TEXTS, kinds, fusion=make_fusion(reading, method))
    ensemble = make_ensemble(TEXTS, kinds, fusion=safe(reading, method))
    prompts = [text[:cut] for text in TEXTS for cut in (4, 9)]
    expected = always.generate(prompts)
    answers = ensemble.generate(prompts)
    assert [answer.text for answer in answers] == [answer.text for answer in expected]
    assert all(0 < answer.fusion.share_fused < 1 for answer in answers)


@pytest.mark.parametrize(("reading", "method"), CASES)
def test_steps_that_are_not_fused_are_the_main_models_alone(make_ensemble, reading, method):
    params = SamplingParams(max_new_tokens=40, logprobs=0, trace=True)
    alone = make_ensemble(TEXTS, ("bpe",)).generate(STORY[:4], params)
    ensemble = make_ensemble(TEXTS, ("bpe", "sentencepiece"), fusion=safe(reading, method), weights=(0.6, 0.4))
    ensemble.members[1].confidence = 4.0
    generation = ensemble.generate(STORY[:4], params)
    assert generation.text == alone.text
    differs = [
        abs(one.logprob - other.logprob) > 1e-4 for one, other in zip(generation.logprobs, alone.logprobs, strict=True)
    ]
    assert [step.is_fused for step in generation.trace] == differs
    assert generation.fusion.num_fused == sum(differs) > 0
    assert generation.fusion.num_steps == len(differs) == len(generation.token_ids)
    for step in generation.trace:
        assert [view.member for view in step.members] == (["bpe", "sentencepiece"] if step.is_fused else ["bpe"])


def test_steps_are_fused_where_a_members_text_is_at_one_of_its_boundaries_and_no_others(make_ensemble):
    ensemble = make_ensemble(TEXTS, ("bpe", "sentencepiece"), fusion=safe())
    vocabulary = ensemble.members[1].vocabulary
    generation = ensemble.generate(OTHER[:5], SamplingParams(trace=True))
    text = OTHER[:5]
    for step in generation.trace:
        assert step.is_fused != is_open(vocabulary, text)
        text += step.text


def test_a_step_of_which_the_main_model_is_sure_is_left_to_it(make_ensemble):
    for confidence, share in ((1.0, 1), (0.05, 0)):
        ensemble = make_ensemble(TEXTS, ("bpe", "sentencepiece"), fusion=safe(confidence=confidence))
        prompt = next(OTHER[:end] for end in range(3, 20) if not is_open(ensemble.members[1].vocabulary, OTHER[:end]))
        generation = ensemble.generate(prompt, SamplingParams(max_new_tokens=1))
        assert generation.fusion.share_fused == share
        assert len(ensemble.members[1].passes) == share


def test_what_a_member_has_not_seen_is_fed_in_one_pass_when_it_is_asked_again(make_ensemble):
    ensemble = make_ensemble(TEXTS, ("bpe", "sentencepiece"), fusion=safe())
    generation = ensemble.generate(OTHER[:5], SamplingParams(trace=True))
    main, other = ensemble.members
    fused = [step.is_fused for step in generation.trace]
    assert len(main.passes) == len(fused)
    assert len(other.passes) == sum(fused) < len(fused)
    assert max(len(ids) for ids in fed_to(other)[1:]) > 1
    num_seen = sum(map(len, fed_to(other)))
    last = len(fused) - fused[::-1].index(True) - 1
    text = OTHER[:5] + "".join(step.text for step in generation.trace[:last])
    assert num_seen - other.num_rolled_back == len(other.vocabulary.encode_prompt(text).ids)


@pytest.mark.parametrize("reading", ["token", "text"])
def test_a_batch_gives_what_each_prompt_gives_alone(make_ensemble, reading):
    ensemble = make_ensemble(TEXTS, ("bpe", "unigram", "sentencepiece"), fusion=safe(reading))
    for member in ensemble.members:
        member.confidence = 4.5
    params = SamplingParams(temperature=1.0, seed=3, max_new_tokens=20)
    prompts = [text[:cut] for text in TEXTS for cut in (4, 9)]
    alone = [ensemble.generate(prompt, params) for prompt in prompts]
    assert ensemble.generate(prompts, params) == alone


def test_scores_under_safe_fusion_are_those_of_generation(make_ensemble):
    ensemble = make_ensemble(TEXTS, ("bpe", "unigram"), fusion=safe("text"))
    context, continuation = "Once upon a time", " there was a girl."
    score = ensemble.score(context, continuation)
    generated = ensemble.generate(context, SamplingParams(logprobs=0))
    assert score.is_greedy
    assert score.logprob == pytest.approx(sum(choice.logprob for choice in generated.logprobs[:-1]), abs=1e-4)
    assert score.fusion.num_steps == score.num_tokens == generated.fusion.num_steps - 1


@pytest.mark.parametrize("name", ["bpe", "sentencepiece"])
def test_nan_fails_its_own_sequence_only(make_ensemble, name):
    ensemble = make_ensemble(TEXTS, ("bpe", "sentencepiece"), fusion=safe("text", confidence=1.0))
    member = next(member for member in ensemble.members if member.name == name)

    def spoil(text, logits):
        return logits.index_fill(0, torch.tensor([7]), float("nan")) if text.startswith(b"Once upon a") else logits

    member.change = spoil
    with ThreadPoolExecutor(2) as pool:
        sound, broken = pool.submit(ensemble.generate, STORY[:4]), pool.submit(ensemble.generate, "Once")
    assert sound.result().text == STORY[4:]
    with pytest.raises(NumericalError, match=f"logits of '{name}' at step"):
        broken.result()
    assert not any(one.rows for one in ensemble.members)


def test_a_member_that_raises_fails_only_the_sequences_for_which_it_was_asked(make_ensemble):
    ensemble = make_ensemble(TEXTS, ("bpe", "sentencepiece", "unigram"), fusion=safe(confidence=0.6))
    ensemble.members[0].change = lambda text, logits: logits * (5 if text.startswith(b"The") else 0.2)

    def fail(tokens):
        raise RuntimeError("out of memory")

    ensemble.members[1].before_pass = fail
    with ThreadPoolExecutor(2) as pool:
        sure, unsure = pool.submit(ensemble.generate, STORY[:4]), pool.submit(ensemble.generate, "Once upon")
    assert sure.result().text == STORY[4:]
    assert sure.result().fusion.num_fused == 0
    with pytest.raises(MemberError, match="'sentencepiece' failed in a forward pass"):
        unsure.result()
    assert not any(member.rows for member in ensemble.members)


def test_an_extension_that_raises_fails_only_the_sequences_for_which_it_was_asked(make_ensemble):
    ensemble = make_ensemble(TEXTS, ("bpe", "sentencepiece"), fusion=safe("text", confidence=0.6, min_mass=0.001))
    main, other = ensemble.members
    main.change = lambda text, logits: logits * (5 if text.startswith(b"The") else 0.2)

    def fail(branches):
        raise RuntimeError("out of memory")

    other.start_peek = fail
    other.change = lambda text, logits: torch.zeros_like(logits)
    with ThreadPoolExecutor(2) as pool:
        sure, unsure = pool.submit(ensemble.generate, STORY[:4]), pool.submit(ensemble.generate, "Once upon")
    assert sure.result().text == STORY[4:]
    with pytest.raises(
        MemberError,
        match="'sentencepiece' failed in a forward pass: RuntimeError: out of memory",
    ):
        unsure.result()
    assert not any(member.rows for member in ensemble.members)


class OneTrack:
    """As much of a sequence as a gate looks at."""

    def __init__(self, vocabulary, text, *, takes_main_tokens):
        member = GuardedMember(ScriptedMember(vocabulary, []))
        self.tracks = [Track(member, vocabulary.encode_prompt(text), takes_main_tokens=takes_main_tokens)]


@pytest.mark.parametrize("takes_main_tokens", [True, False])
def test_a_member_with_the_main_models_vocabulary_is_always_at_a_boundary(vocabularies, takes_main_tokens):
    vocabulary = vocabularies["bpe"]
    text = next(OTHER[:end] for end in range(3, 20) if is_open(vocabulary, OTHER[:end]))
    sequence = OneTrack(vocabulary, text, takes_main_tokens=takes_main_tokens)
    unsure = torch.full((1, len(vocabulary)), 1 / len(vocabulary)).log()
    assert FuseWhenUnsure(0.9).choose([sequence], unsure) == ([0] if takes_main_tokens else [])
