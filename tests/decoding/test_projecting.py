"""Members projected as text inside the engine: scripted ones and tiny random models."""

from __future__ import annotations

import logging
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from deepen_llm import Ensemble, FusionConfig, SamplingParams
from deepen_llm.config import EnsembleConfig
from deepen_llm.errors import MemberError, NumericalError
from deepen_llm.members.base import Ready
from deepen_llm.members.transformers import TransformersMember
from deepen_llm.testing import ScriptedMember
from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers
from tests.models import make_model
from tests.rounding import rounding

STORY = "The quick brown fox jumps over the lazy dog. Привет, мир! 今天 👍🏽 naïve café 3.14159\n\tdone"
OTHERS = ["Once upon a time there was a girl.", "What is the capital of France? Paris."]
TEXTS = [STORY, *OTHERS]
KINDS = [("bpe", "sentencepiece"), ("sentencepiece", "unigram"), ("unigram", "bpe", "sentencepiece")]
METHODS = ("relative", "text")
TOLERANCE = rounding(num_terms=700, num_steps=4)
"""Of vocabularies of at most 700 tokens: a softmax of each member, a projection and a mean."""
TOKENIZERS = {
    "bpe": toy_tokenizers.byte_level_bpe,
    "small bpe": lambda: toy_tokenizers.byte_level_bpe(size=320),
    "sentencepiece": toy_tokenizers.sentencepiece_bpe,
    "unigram": toy_tokenizers.unigram,
}


def load(kind):
    return Vocabulary.from_tokenizer(TOKENIZERS[kind](), name=kind)


def text_of(method, **settings):
    """Relative fusion with everything through its space: what is averaged as it is, the text fusion has."""
    if method == "relative":
        settings = {"maps": "all", "max_candidates": None, **settings}
    return FusionConfig(method=method, **settings)


def make_random(kinds, seeds=None, eos_ids=None, **settings):
    """An ensemble of random models of one architecture each, with these tokenizers."""
    members = []
    for at, kind in enumerate(kinds):
        tokenizer = TOKENIZERS[kind]()
        architecture = ("llama", "neox", "gpt2")[at % 3] if seeds is None else "llama"
        model = make_model(architecture, vocab_size=len(tokenizer), seed=at if seeds is None else seeds[at])
        if eos_ids is not None:
            model.generation_config.eos_token_id = list(eos_ids)
        members.append(TransformersMember(model, tokenizer, name=f"{at}: {kind}"))
    return Ensemble(members, EnsembleConfig(members=tuple(member.name for member in members), **settings))


def close_choices(left, right, abs_tol=2e-4):
    assert left.token_ids == right.token_ids
    assert [c.logprob for c in left.logprobs] == pytest.approx([c.logprob for c in right.logprobs], abs=abs_tol)


def say(member, said):
    """Have a scripted member give these texts' tokens these probs after these endings of its text, and no others."""
    ids = member.vocabulary.ids_by_token

    def change(text, logits):
        for ending, probs in said.items():
            if text.endswith(ending):
                logits = torch.full_like(logits, -torch.inf)
                for token, prob in probs.items():
                    logits[ids[token]] = math.log(prob)
        return logits

    member.change = change


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("cut", [3, 6, 20, 47, 62])
def test_members_that_agree_say_the_text_whatever_their_tokens(make_ensemble, method, kinds, cut):
    ensemble = make_ensemble(TEXTS, kinds, fusion=text_of(method))
    generation = ensemble.generate(STORY[:cut], SamplingParams(max_new_tokens=200))
    assert generation.text == STORY[cut:]
    assert generation.finish_reason == "stop"


@pytest.mark.parametrize("method", METHODS)
def test_rows_are_as_they_were_after_every_extension_and_hold_the_main_models_text(make_ensemble, method):
    ensemble = make_ensemble(TEXTS, ("bpe", "sentencepiece", "unigram"), fusion=text_of(method))
    seen = {member.name: [] for member in ensemble.members}
    for member in ensemble.members:
        extend, peek = member.start_extend, member.start_peek

        def watched_extend(tokens, measured=None, member=member, extend=extend):
            logits = extend(tokens, measured)
            seen[member.name] += [member.text(member.rows[row]) for row in tokens]
            return logits

        def watched_peek(branches, member=member, peek=peek):
            before = {row: list(ids) for row, ids in member.rows.items()}
            logits = peek(branches)
            assert member.rows == before
            return logits

        member.start_extend, member.start_peek = watched_extend, watched_peek
    ensemble.generate(STORY[:8], SamplingParams(max_new_tokens=200))
    assert sum(len(member.peeks) for member in ensemble.members) > 3
    assert seen["sentencepiece"] == seen["bpe"] == seen["unigram"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kinds", [("bpe", "sentencepiece"), ("small bpe", "unigram", "bpe")])
def test_a_batch_of_random_models_gives_what_each_prompt_gives_alone(method, kinds):
    params = SamplingParams(max_new_tokens=12, logprobs=0, ignore_eos=True)
    prompts = [text[:cut] for text in TEXTS for cut in (7, 12)]
    with make_random(kinds, fusion=text_of(method, min_mass=0.001)) as ensemble:
        alone = [ensemble.generate(prompt, params) for prompt in prompts]
        together = ensemble.generate(prompts, params)
    assert sum(generation.fusion.num_extra_rows for generation in alone) > 0
    for one, other in zip(alone, together, strict=True):
        close_choices(one, other)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_text_alone_and_in_a_batch(make_ensemble, method):
    ensemble = make_ensemble(TEXTS, ("sentencepiece", "bpe"), fusion=text_of(method))
    for member in ensemble.members:
        member.confidence = 4.0
    params = SamplingParams(temperature=1.3, seed=11, max_new_tokens=30)
    alone = ensemble.generate(STORY[:4], params)
    assert ensemble.generate([STORY[:4], OTHERS[0][:4], STORY[:4]], params)[2].token_ids == alone.token_ids
    assert ensemble.generate(STORY[:4], params).token_ids == alone.token_ids
    assert ensemble.generate(STORY[:4], params.replace(seed=12)).text != alone.text


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("eos_ids", [None, [1, 40]])
def test_copies_of_one_model_are_that_model(method, eos_ids):
    params = SamplingParams(max_new_tokens=15, logprobs=0, ignore_eos=True)
    with make_random(["bpe"], seeds=[5], eos_ids=eos_ids) as ensemble:
        alone = ensemble.generate(STORY[:9], params)
    with make_random(["bpe"] * 3, seeds=[5] * 3, eos_ids=eos_ids, fusion=text_of(method)) as ensemble:
        together = ensemble.generate(STORY[:9], params)
    close_choices(alone, together)
    assert together.fusion.num_extra_rows == 0


@pytest.mark.parametrize("method", METHODS)
def test_several_ends_of_sequence_of_copies_count_as_one_as_the_main_models_do(method):
    said, likely = [], (433, 192)
    for weights in ((1.0, 0.0), (0.5, 0.5)):
        settings = {"weights": weights, "fusion": text_of(method)}
        with make_random(["bpe"] * 2, seeds=[5] * 2, eos_ids=likely, **settings) as ensemble:
            first = ensemble.members[0].vocabulary.eos_ids[0]
            best = ensemble.generate(STORY[:9], SamplingParams(max_new_tokens=1, logprobs=100)).logprobs[0].top
            said.append({candidate.token_id: candidate.prob for candidate in best})
    assert said[0] == pytest.approx(said[1], abs=1e-4)
    assert said[1][first] > 0.3
    assert first not in likely and not said[1].keys() & {*likely}


@pytest.mark.parametrize("method", METHODS)
def test_a_member_may_end_an_answer_whose_main_model_has_several_ends_of_sequence(method):
    tokenizer = toy_tokenizers.byte_level_bpe()
    main = Vocabulary.from_tokenizer(tokenizer, name="main", eos_ids=[300, 301])
    members = [ScriptedMember(main, [OTHERS[0] + " And then"]), ScriptedMember(load("sentencepiece"), OTHERS)]
    config = EnsembleConfig(members=("main", "sentencepiece"), weights=(0.2, 0.8), fusion=text_of(method))
    with Ensemble(members, config) as ensemble:
        generation = ensemble.generate(OTHERS[0][:12], SamplingParams(max_new_tokens=40))
    assert generation.text == OTHERS[0][12:]
    assert generation.token_ids[-1] == main.eos_ids[0]


@pytest.mark.parametrize("method", METHODS)
def test_all_weight_on_the_main_model_is_the_main_model(method):
    params = SamplingParams(max_new_tokens=15, logprobs=0, ignore_eos=True)
    with make_random(["small bpe"], seeds=[3]) as ensemble:
        alone = ensemble.generate(STORY[:9], params)
    settings = {"weights": (1.0, 0.0), "fusion": text_of(method)}
    with make_random(["small bpe", "sentencepiece"], seeds=[3, 4], **settings) as ensemble:
        close_choices(alone, ensemble.generate(STORY[:9], params))


def test_a_member_with_the_main_models_vocabulary_reads_as_itself():
    params = SamplingParams(max_new_tokens=15, logprobs=0, ignore_eos=True)
    with make_random(["bpe"], seeds=[8]) as ensemble:
        alone = ensemble.generate(STORY[:9], params)
    with make_random(["bpe"] * 2, seeds=[5, 8], weights=(0.0, 1.0), fusion=text_of("text")) as ensemble:
        close_choices(alone, ensemble.generate(STORY[:9], params))


@pytest.fixture
def letters_with_words():
    """A main model that has bytes alone and no say, beside a member that has words."""
    letters = Vocabulary.from_tokenizer(toy_tokenizers.byte_level_bpe(size=259), name="letters")
    words = Vocabulary.from_tokenizer(toy_tokenizers.byte_level_bpe(), name="words")
    members = [ScriptedMember(letters, TEXTS), ScriptedMember(words, TEXTS)]
    config = EnsembleConfig(members=("letters", "words"), weights=(0.0, 1.0), fusion=text_of("text"))
    with Ensemble(members, config) as ensemble:
        yield ensemble


def test_the_probability_of_a_word_carries_every_letter_that_spells_it(letters_with_words):
    ensemble = letters_with_words
    words = ensemble.members[1]
    say(words, {b"What is": {b" the": 0.7, b" and": 0.3}, b" the": {b" dog": 0.6, b" does": 0.4}})

    assert ensemble.score("What is", " the").logprob == pytest.approx(math.log(0.7), abs=TOLERANCE)
    assert ensemble.score("What is", " and").logprob == pytest.approx(math.log(0.3), abs=TOLERANCE)
    assert ensemble.score("What is", " the do").logprob == pytest.approx(math.log(0.7), abs=TOLERANCE)
    assert ensemble.score("What is", " the dog").logprob == pytest.approx(math.log(0.7 * 0.6), abs=TOLERANCE)


def test_a_word_that_is_open_is_read_from_what_was_said_before_it(letters_with_words):
    ensemble = letters_with_words
    words = ensemble.members[1]
    say(words, {b"What is": {b" the": 0.7, b" and": 0.3}})
    generation = ensemble.generate("What is", SamplingParams(max_new_tokens=3, logprobs=2))
    assert generation.text == " th"
    assert [c.logprob for c in generation.logprobs] == pytest.approx([0.0, math.log(0.7), 0.0], abs=TOLERANCE)
    assert words.peeks == []
    assert generation.fusion.truncated_mass == pytest.approx(0.0, abs=TOLERANCE)


def test_a_prompt_that_ends_inside_a_word_asks_the_member_before_that_word(letters_with_words):
    ensemble = letters_with_words
    words = ensemble.members[1]
    say(words, {b"What is": {b" the": 0.7, b" and": 0.3}})
    generation = ensemble.generate("What is t", SamplingParams(max_new_tokens=2, logprobs=0))
    assert generation.text == "he"
    assert [c.logprob for c in generation.logprobs] == pytest.approx([0.0, 0.0], abs=1e-4)
    assert words.text(words.peeks[0][0]) == b"What is"


@pytest.mark.parametrize("fusion", [{}, {"method": "text"}])
@pytest.mark.parametrize("found", [1e-3, 1e-6, 1e-9])
def test_a_member_that_found_the_open_bytes_nearly_impossible_cannot_change_how_the_word_goes_on(fusion, found):
    """Of what it finds possible after them, it would be certain: that is no word of anybody's."""
    letters = Vocabulary.from_tokenizer(toy_tokenizers.byte_level_bpe(size=259), name="letters")
    words = Vocabulary.from_tokenizer(toy_tokenizers.byte_level_bpe(), name="words")
    members = [ScriptedMember(letters, TEXTS), ScriptedMember(words, TEXTS)]
    say(members[0], {b"is": {b" ": 1.0}, b"is ": {b"t": 1.0}, b"is t": {b"o": 0.6, b"h": 0.4}, b"is th": {b"y": 1.0}})
    say(members[1], {b"What is": {b" the": found, b" and": 1 - found}})
    config = EnsembleConfig(members=("letters", "words"), weights=(0.5, 0.5), fusion=FusionConfig(**fusion))
    with Ensemble(members, config) as ensemble:
        begun, *longer = (ensemble.score("What is", text).logprob for text in (" t", " to", " th", " the"))
    assert math.exp(begun) == pytest.approx(0.5 * (1 + found), abs=TOLERANCE)
    expected = [0.5 * 0.6, 0.5 * (0.4 + found), 0.5 * found]
    assert [math.exp(logprob) for logprob in longer] == pytest.approx(expected, abs=TOLERANCE)
    assert longer[2] == pytest.approx(math.log(expected[2]), abs=0.01)


def test_a_character_that_the_main_model_cuts_is_read_byte_by_byte(make_ensemble):
    ensemble = make_ensemble(["x 今天 👍🏽!"], ("bpe", "unigram"), fusion=text_of("text"), weights=(0.0, 1.0))
    generation = ensemble.generate("x", SamplingParams(max_new_tokens=40, logprobs=0))
    assert generation.text == " 今天 👍🏽!"
    assert len(generation.token_ids) > len(generation.text)  # its tokens are parts of characters
    assert min(choice.logprob for choice in generation.logprobs) > math.log(0.5)


def test_extra_rows_and_passes_are_those_that_the_members_ran_and_the_trace_tells_the_texts(make_ensemble):
    ensemble = make_ensemble(TEXTS, ("bpe", "sentencepiece", "unigram"), fusion=text_of("relative"))
    generation = ensemble.generate(STORY[:8], SamplingParams(max_new_tokens=60, trace=True))
    peeks = [peek for member in ensemble.members for peek in member.peeks]
    assert generation.fusion.num_extra_passes == len(peeks) > 0
    assert generation.fusion.num_extra_rows == sum(map(len, peeks))
    assert max(map(len, peeks)) <= FusionConfig().max_rows
    assert generation.fusion.num_steps == generation.fusion.num_fused == len(generation.token_ids)
    assert generation.fusion.share_fused == 1
    assert 0 <= generation.fusion.truncated_mass < 0.1
    extended = [text for step in generation.trace for view in step.members for text in view.extended]
    assert extended
    assert [view.extended for step in generation.trace for view in step.members if view.member == "bpe"] == [()] * len(
        generation.trace
    )
    stream = list(ensemble.stream(STORY[:8], SamplingParams(max_new_tokens=60)))
    assert stream[-1].fusion == generation.fusion


def test_without_passes_nothing_is_asked_and_every_answer_still_comes(make_ensemble):
    ensemble = make_ensemble(TEXTS, fusion=text_of("relative", max_passes=0))
    generation = ensemble.generate(STORY[:12], SamplingParams(max_new_tokens=200))
    assert generation.text == STORY[12:]
    assert generation.fusion.num_extra_rows == 0
    assert all(not member.peeks for member in ensemble.members)


def test_nothing_is_kept_of_a_sequence_that_is_done(make_ensemble):
    ensemble = make_ensemble(TEXTS, fusion=text_of("relative"))
    import gc

    from deepen_llm.decoding.token_boundary import TokenBoundary

    def boundaries():
        gc.collect()
        return sum(type(kept) is TokenBoundary for kept in gc.get_objects())

    before = boundaries()  # errors that other tests keep have frames, and these what ran in them
    ensemble.generate(STORY[:12])
    assert boundaries() == before


def test_a_member_that_cannot_express_the_text_abstains_and_says_so(caplog):
    main = Vocabulary.from_tokenizer(toy_tokenizers.byte_level_bpe(), name="main")
    poor = Vocabulary.from_tokenizer(toy_tokenizers.sentencepiece_bpe(byte_fallback=False), name="poor")
    scores = []
    for weights in ((0.5, 0.5), (0.7, 0.3), (1.0, 0.0)):
        members = [ScriptedMember(main, ["a ☃ dog", "a quick ☃"]), ScriptedMember(poor, ["a quick dog"])]
        config = EnsembleConfig(members=("main", "poor"), weights=weights, fusion=text_of("text"))
        with Ensemble(members, config) as ensemble, caplog.at_level(logging.WARNING):
            generation = ensemble.generate("a ☃", SamplingParams(max_new_tokens=2, logprobs=0))
            scores.append([choice.logprob for choice in generation.logprobs])
            assert generation.text == " dog"
            least = 1 if weights[1] else 0  # who has no weight is not asked
            assert least <= generation.fusion.num_abstained <= least * generation.fusion.num_steps
    assert [score[0] for score in scores] == pytest.approx([scores[2][0]] * 3, abs=TOLERANCE)
    told = [record.getMessage() for record in caplog.records if "'poor' cannot express the text" in record.getMessage()]
    assert len(told) == 2  # once an ensemble that asks it
    assert "at step 0" in told[0]


def test_a_character_that_a_member_cannot_spell_leaves_its_weight_to_the_main_model():
    main = Vocabulary.from_tokenizer(toy_tokenizers.byte_level_bpe(), name="main")
    poor = Vocabulary.from_tokenizer(toy_tokenizers.sentencepiece_bpe(byte_fallback=False), name="poor")
    members = [ScriptedMember(main, ["a ☃"], confidence=20.0), ScriptedMember(poor, ["a ☃"])]
    members[1].change = lambda text, logits: logits.zero_()
    config = EnsembleConfig(members=("main", "poor"), weights=(0.7, 0.3), fusion=text_of("text"))
    with Ensemble(members, config) as ensemble:
        generation = ensemble.generate("a", SamplingParams(max_new_tokens=4, logprobs=0))
    assert generation.text == " ☃"
    assert generation.logprobs[1].logprob < -0.1  # before the character, the member has its say
    assert generation.logprobs[2].logprob == pytest.approx(0.0, abs=1e-4)  # inside it, it has none


@pytest.mark.parametrize("context_length", [14, 17, 20, 24])
@pytest.mark.parametrize("max_passes", [1, 6, 60])
def test_where_the_context_is_nearly_full_no_extension_goes_beyond_it(make_ensemble, context_length, max_passes):
    fusion = text_of("relative", min_mass=0.0, max_passes=max_passes)
    ensemble = make_ensemble(TEXTS, ("bpe", "unigram"), fusion=fusion, context_length=context_length)
    generation = ensemble.generate(STORY[:9])
    assert generation.finish_reason == "length"
    assert STORY[9:].startswith(generation.text.rstrip("\ufffd"))
    peeks = [ids for peek in ensemble.members[1].peeks for ids in peek]
    assert 0 < max(map(len, peeks)) <= context_length


def test_a_member_that_fails_while_it_is_extended_fails_the_sequences_by_name_and_the_engine_goes_on(make_ensemble):
    ensemble = make_ensemble(TEXTS, fusion=text_of("relative"))
    peek = ensemble.members[1].start_peek

    def fail(branches):
        raise RuntimeError("out of memory")

    ensemble.members[1].start_peek = fail
    message = r"'sentencepiece' failed in a forward pass: RuntimeError: out of memory; the ensemble stays usable"
    with pytest.raises(MemberError, match=message) as caught:
        ensemble.generate(STORY[:12])
    assert isinstance(caught.value.__cause__, RuntimeError)
    ensemble.members[1].start_peek = peek
    assert ensemble.generate(STORY[:12]).text == STORY[12:]
    assert not any(member.rows for member in ensemble.members)


def test_nan_in_an_extension_fails_that_sequence_only(make_ensemble):
    ensemble = make_ensemble(TEXTS, fusion=text_of("relative", min_mass=0.0))
    peek = ensemble.members[1].start_peek

    def spoil(branches):
        logits, texts = peek(branches).result(), ensemble.members[1].peeks[-1]
        for at, ids in enumerate(texts):
            if ensemble.members[1].text(ids).startswith(b"Once upon a"):
                logits[at, 5] = float("nan")
        return Ready(logits)

    ensemble.members[1].start_peek = spoil
    with ThreadPoolExecutor(2) as pool:
        sound, broken = pool.submit(ensemble.generate, STORY[:12]), pool.submit(ensemble.generate, "Once upon a")
    assert sound.result().text == STORY[12:]
    with pytest.raises(NumericalError, match=r"logits of 'sentencepiece' at step \d+: try another dtype"):
        broken.result()
    assert not any(member.rows for member in ensemble.members)
