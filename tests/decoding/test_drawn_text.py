"""One member drawn for each word: the ensemble's distribution, counted, and what is asked of whom."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest

from deepen_llm import Ensemble, EnsembleConfig, FusionConfig, MemberConfig, SamplingParams
from deepen_llm.errors import MemberError
from deepen_llm.testing import ScriptedMember
from deepen_llm.vocabulary import Vocabulary
from tests.decoding.drawn_members import make_ensemble, make_vocabulary
from tests.toy_tokenizers import unigram

KINDS = {"letters": (), "ab": (("a", "b"),), "words": (("Ġ", "a"), ("Ġ", "b"), ("Ġa", "b"))}
CASES = [
    (("letters", "letters"), (0.5, 0.5), "ab"),
    (("words", "words"), (0.3, 0.7), "ab"),
    (("letters", "letters", "letters"), (0.2, 0.5, 0.3), "a b"),
    (("letters", "words"), (0.4, 0.6), "ab"),
    (("words", "letters"), (0.5, 0.5), "ab"),
    (("letters", "ab"), (0.5, 0.5), "ba"),
]
NUM_TOKENS, NUM_DRAWN = 2, 1920
LIFTED = {"min_mass": 0.0, "max_rows": 64, "max_passes": 12}
"""Settings of fuse="always" with which it projects as exactly as it can."""


def make(names, weights, **fusion):
    return make_ensemble(
        [make_vocabulary(f"{name} {at}", *KINDS[name]) for at, name in enumerate(names)], weights, **fusion
    )


def draw(ensemble, prompt, num=NUM_DRAWN, num_tokens=NUM_TOKENS):
    """Answers, many at a time."""
    answers = []
    for seed in range(0, num, 128):
        params = SamplingParams(max_new_tokens=num_tokens, temperature=1.0, seed=1000 * seed, n=128)
        first = ensemble.generate(prompt, params)
        answers += [first, *first.alternatives]
    return answers


def count(answers, vocabulary):
    """How many of the answers begin with each sequence of tokens."""
    found = Counter()
    for answer in answers:
        ids = tuple(token_id for token_id in answer.token_ids if token_id not in vocabulary.eos_ids)
        found.update(ids[:num] for num in range(1, len(ids) + 1))
    return found


@pytest.mark.parametrize(("names", "weights", "prompt"), CASES)
def test_texts_come_as_often_as_all_members_together_say(names, weights, prompt):
    with make(names, weights, fuse="drawn") as ensemble:
        vocabulary = ensemble.members[0].vocabulary
        counted = count(draw(ensemble, prompt), vocabulary)
    texts = ["".join(text) for num in range(1, NUM_TOKENS + 1) for text in itertools.product("ab ", repeat=num)]
    with make(names, weights, fuse="always", **LIFTED) as ensemble:
        scores = ensemble.score_batch([(prompt, text) for text in texts])
    deviations = []
    for text, score in zip(texts, scores, strict=True):
        share = math.exp(score.logprob)
        expected = NUM_DRAWN * share
        got = counted[tuple(vocabulary.encode(text, at_start=False))]
        if expected > 10:
            deviations.append((got - expected) / math.sqrt(expected * (1 - share)))
    assert len(deviations) >= 8
    assert max(map(abs, deviations)) < 4
    assert sum(z * z for z in deviations) / len(deviations) < 2.2


def test_one_member_is_asked_at_a_step_and_the_others_catch_up_in_one_pass():
    with make(("letters", "letters", "letters"), (0.4, 0.3, 0.3), fuse="drawn") as ensemble:
        answers = draw(ensemble, "ab", 128, 30)
        fed = [len(ids) for member in ensemble.members for one in member.passes for ids in one.values()]
    num_tokens = sum(len(answer.token_ids) for answer in answers)
    assert num_tokens > 1000
    # One row a token, and another where a word ends and another member is drawn.
    assert num_tokens < len(fed) < 2 * num_tokens
    assert max(fed) > 5


def test_a_member_without_weight_is_never_asked():
    with make(("words", "letters"), (1.0, 0.0), fuse="drawn") as ensemble:
        draw(ensemble, "ab", 128, 8)
        assert not ensemble.members[1].passes


@pytest.mark.parametrize("names", [("words", "letters"), ("letters", "words"), ("ab", "ab")])
def test_all_weight_on_one_member_is_that_member(names):
    params = SamplingParams(max_new_tokens=30, temperature=1.0, seed=11)
    with make(names, (0.0, 1.0), fuse="drawn") as ensemble:
        text = ensemble.generate("ab", params).text
        member = ensemble.members[1]
        fed = [token_id for one in member.passes for ids in one.values() for token_id in ids]
    assert member.vocabulary.join(fed).decode().startswith("ab" + text[:-1][:20])


@pytest.mark.parametrize("names", [("letters", "words", "ab"), ("words", "words")])
def test_a_seed_draws_the_same_alone_and_in_a_batch_and_the_pieces_join(names):
    with make(names, [1 / len(names)] * len(names), fuse="drawn") as ensemble:
        params = SamplingParams(max_new_tokens=12, temperature=1.0, seed=3)
        prompts = ["ab", "b a", "a ba b"]
        alone = [ensemble.generate(prompt, params) for prompt in prompts]
        assert ensemble.generate(prompts, params) == alone
        stream = ensemble.stream(prompts[0], params)
        assert "".join(chunk.text for chunk in stream) == alone[0].text
        assert not any(member.rows for member in ensemble.members)


@pytest.fixture
def drawn():
    return FusionConfig(method="text", fuse="drawn")


@pytest.fixture
def make_members_of():
    """An ensemble of members that are made; closed after the test."""
    made = []

    def make_one(members, weights, fusion):
        names = tuple(MemberConfig(model=member.name) for member in members)
        made.append(Ensemble(members, EnsembleConfig(members=names, weights=weights, fusion=fusion)))
        return made[-1]

    yield make_one
    for ensemble in made:
        ensemble.close()


STORY = "The quick brown fox jumps over the lazy dog. Привет, мир! 今天 👍🏽 naïve café"
MIXED = [("bpe", "sentencepiece"), ("sentencepiece", "bpe", "unigram"), ("unigram", "sentencepiece")]


@pytest.mark.parametrize("kinds", MIXED)
@pytest.mark.parametrize("cut", [4, 9, 17])
def test_members_that_agree_write_what_they_know_in_any_tokens(make_ensemble, drawn, kinds, cut):
    ensemble = make_ensemble([STORY], kinds, fusion=drawn)
    for member in ensemble.members:
        member.confidence = 30.0
    vocabulary = ensemble.members[0].vocabulary
    answer = ensemble.generate(STORY[:cut], SamplingParams(temperature=1.0, seed=cut))
    assert answer.text == STORY[cut:]
    assert answer.finish_reason == "stop"
    assert vocabulary.join(answer.token_ids).decode().removeprefix(" ") == STORY[cut:].removeprefix(" ")
    for member in ensemble.members:
        assert not member.rows


def test_weights_by_the_prompt_are_those_of_asking_all(make_ensemble, drawn):
    texts = {"bpe": [STORY], "sentencepiece": ["another text altogether"]}
    ensemble = make_ensemble([], ("bpe", "sentencepiece"), texts, fusion=drawn, weights="prompt")
    both = make_ensemble([], ("bpe", "sentencepiece"), texts, fusion=drawn.replace(fuse="always"), weights="prompt")
    for member in (*ensemble.members, *both.members):
        member.confidence = 12.0
    params = SamplingParams(temperature=1.0, seed=1, max_new_tokens=3)
    weights = ensemble.generate(STORY[:45], params).fusion.weights
    assert weights == pytest.approx(both.generate(STORY[:45], params).fusion.weights)
    assert weights[0] > 0.9


def test_what_the_main_model_cannot_express_it_writes_itself(vocabularies, make_members_of, drawn):
    """A member that wants a sign for which the main model has no token leaves the word to the main model."""
    narrow = make_vocabulary("narrow")
    wide = ScriptedMember(vocabularies["bpe"], ["ab xyz"], confidence=40.0)
    main = ScriptedMember(narrow, ["ab ba"], confidence=40.0)
    ensemble = make_members_of([main, wide], (0.0, 1.0), drawn)
    answer = ensemble.generate("ab ", SamplingParams(temperature=1.0, seed=2))
    assert answer.text == "ba"


def test_a_member_that_cannot_read_the_text_leaves_the_word_to_the_main_model(vocabularies, make_members_of, drawn):
    main = ScriptedMember(vocabularies["bpe"], ["𓀀 abc"], confidence=40.0)
    narrow = Vocabulary.from_tokenizer(unigram(byte_fallback=False), name="no bytes")
    other = ScriptedMember(narrow, ["nothing"], confidence=40.0)
    ensemble = make_members_of([main, other], (0.0, 1.0), drawn)
    answer = ensemble.generate("𓀀", SamplingParams(temperature=1.0, seed=2, max_new_tokens=2))
    assert answer.text.startswith(" ")
    assert answer.fusion.num_abstained > 0


def test_a_stop_string_and_the_limit_end_what_is_drawn(make_ensemble, drawn):
    ensemble = make_ensemble([STORY], ("bpe", "sentencepiece"), fusion=drawn)
    for member in ensemble.members:
        member.confidence = 30.0
    stopped = ensemble.generate(STORY[:4], SamplingParams(temperature=1.0, seed=1, stop=(" fox",)))
    assert (stopped.text, stopped.finish_reason) == ("quick brown", "stop")
    cut = ensemble.generate(STORY[:4], SamplingParams(temperature=1.0, seed=1, max_new_tokens=3))
    assert (len(cut.token_ids), cut.finish_reason) == (3, "length")
    assert STORY[4:].startswith(cut.text)


def test_a_context_that_is_full_ends_the_answer(make_ensemble, drawn):
    ensemble = make_ensemble([STORY], ("bpe", "sentencepiece"), fusion=drawn, context_length=24)
    for member in ensemble.members:
        member.confidence = 30.0
    answer = ensemble.generate(STORY[:4], SamplingParams(temperature=1.0, seed=1))
    assert answer.finish_reason == "length"
    assert STORY[4:].startswith(answer.text)


@pytest.mark.parametrize("broken", [0, 1])
def test_a_member_that_fails_fails_only_what_it_was_drawn_for(make_ensemble, drawn, broken):
    ensemble = make_ensemble([STORY], ("bpe", "sentencepiece"), fusion=drawn, weights=(0.5, 0.5))

    def fail(*_):
        raise RuntimeError("out of memory")

    ensemble.members[broken].before_pass = fail
    with pytest.raises(MemberError, match="failed in a forward pass: RuntimeError: out of memory"):
        ensemble.generate(
            STORY[:4], SamplingParams(temperature=1.0, seed=1, prior=(0.0, 1.0) if broken else (1.0, 0.0))
        )
    other = SamplingParams(temperature=1.0, seed=1, max_new_tokens=3, prior=(1.0, 0.0) if broken else (0.0, 1.0))
    assert ensemble.generate(STORY[:4], other).text
    assert not any(member.rows for member in ensemble.members)


def test_a_roll_back_that_fails_fails_its_request(make_ensemble, drawn):
    ensemble = make_ensemble([STORY], ("bpe", "sentencepiece"), fusion=drawn, weights=(0.5, 0.5))
    for member in ensemble.members:
        member.confidence = 4.0

    def fail(row, num_tokens):
        raise RuntimeError("no way back")

    ensemble.members[1].rollback = fail
    with pytest.raises(MemberError, match="'sentencepiece' failed while tokens were taken back"):
        ensemble.generate([STORY[:cut] for cut in range(4, 20)], SamplingParams(temperature=1.0, seed=1))
