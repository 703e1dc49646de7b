"""Answers with members that read ahead are those without, in fewer passes."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from deepen_llm import Ensemble, FusionConfig, SamplingParams
from deepen_llm.config import EnsembleConfig
from deepen_llm.errors import MemberError
from deepen_llm.members.transformers import TransformersMember
from deepen_llm.testing import FaultyMember, ScriptedMember
from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers
from tests.models import make_model

TOKENIZERS = {
    "bpe": toy_tokenizers.byte_level_bpe,
    "small bpe": lambda: toy_tokenizers.byte_level_bpe(size=320),
    "sentencepiece": toy_tokenizers.sentencepiece_bpe,
    "unigram": toy_tokenizers.unigram,
}
STORY = "The quick brown fox jumps over the lazy dog. Привет, мир! The quick brown fox jumps over the lazy cat."
PROMPTS = ["The quick brown fox jumps over the", "Once upon a time there was", "1, 2, 3, 1, 2, 3, 1,"]
FUSIONS = [
    FusionConfig(method="text"),
    FusionConfig(method="text", fuse="safe", confidence=0.4),
    FusionConfig(method="relative"),
    FusionConfig(method="union"),
]


def make_pair(kinds=("bpe", "sentencepiece"), architectures=("llama", "neox", "gpt2"), seeds=(0, 1, 2), **settings):
    """The same ensemble without reading ahead and with it, of models in float64, whose passes round alike."""
    made = []
    for num_tokens in (0, 8):
        members = []
        for kind, architecture, seed in zip(kinds, architectures, seeds, strict=False):
            tokenizer = TOKENIZERS[kind]()
            model = make_model(architecture, vocab_size=len(tokenizer), seed=seed).double()
            members.append(TransformersMember(model, tokenizer, name=f"{kind} {seed}"))
        config = EnsembleConfig(
            members=tuple(member.name for member in members), num_speculative_tokens=num_tokens, **settings
        )
        made.append(Ensemble(members, config))
    return made


def check_equal(pair, prompts=PROMPTS, **params):
    """Every answer is the same; how many tokens were read ahead and chosen."""
    params = SamplingParams(**{"max_new_tokens": 30, "logprobs": 2, **params})
    plain, ahead = ([ensemble.generate(prompt, params) for prompt in prompts] for ensemble in pair)
    for one, other in zip(plain, ahead, strict=True):
        assert other.token_ids == one.token_ids and other.text == one.text
        assert [c.logprob for c in other.logprobs] == pytest.approx([c.logprob for c in one.logprobs], abs=1e-5)
        assert other.fusion.weights == pytest.approx(one.fusion.weights, abs=1e-5)
        assert one.fusion.num_drafted == one.fusion.num_accepted == 0
    for ensemble in pair:
        ensemble.close()
    return sum(one.fusion.num_accepted for one in ahead)


@pytest.mark.parametrize("fusion", FUSIONS, ids=["text", "safe", "relative", "union"])
def test_the_best_tokens_are_the_same(fusion):
    assert check_equal(make_pair(fusion=fusion)) > 0


@pytest.mark.parametrize("kinds", [("unigram", "small bpe"), ("bpe", "bpe", "unigram")])
def test_the_best_tokens_are_the_same_whatever_the_tokenizers(kinds):
    check_equal(make_pair(kinds, fusion=FUSIONS[0]))


@pytest.mark.parametrize("fusion", FUSIONS[:2], ids=["text", "safe"])
def test_what_a_seed_draws_is_the_same(fusion):
    check_equal(make_pair(fusion=fusion), temperature=0.7, seed=5)


@pytest.mark.parametrize("weights", [None, "prompt", (0.5, 0.5), (0.98, 0.02), (0.9999, 0.0001)])
def test_weights_that_learn_and_members_that_rest_are_the_same(weights):
    check_equal(make_pair(fusion=FusionConfig(method="text"), weights=weights))


def test_what_a_copy_of_the_main_model_writes_ahead_comes_true():
    pair = make_pair(("bpe", "bpe"), ("llama", "llama"), (3, 3))
    accepted = check_equal(pair, prompts=["zu", "Ab"], logprobs=1)
    assert accepted > 0


def test_what_another_writes_ahead_is_checked_in_the_main_models_tokens():
    pair = make_pair(("bpe", "unigram"), fusion=FusionConfig(method="text"), weights=(0.05, 0.95))
    check_equal(pair, prompts=["zu", "Ab", "The"])


def test_penalties_and_a_structure_are_followed_at_every_token():
    check_equal(make_pair(fusion=FusionConfig(method="text")), repetition_penalty=1.3, max_new_tokens=30)
    check_equal(make_pair(fusion=FusionConfig(method="text")), regex="(ab|ac){4,12}")


def test_many_answers_at_once_are_those_of_each_alone():
    plain, ahead = make_pair(fusion=FusionConfig(method="text"))
    params = SamplingParams(max_new_tokens=30)
    with plain, ahead:
        alone = [plain.generate(prompt, params).token_ids for prompt in PROMPTS * 2]
        with ThreadPoolExecutor(6) as pool:
            together = list(pool.map(lambda prompt: ahead.generate(prompt, params).token_ids, PROMPTS * 2))
    assert together == alone


def test_long_prompts_are_read_in_pieces_beside_answers_with_the_same_result():
    plain, ahead = make_pair(fusion=FusionConfig(method="text"), prefill_tokens=5)
    params, prompts = SamplingParams(max_new_tokens=12), [STORY[cut:] for cut in range(0, 60, 12)]
    with plain, ahead:
        alone = [plain.generate(prompt, params).token_ids for prompt in prompts]
        with ThreadPoolExecutor(5) as pool:
            for ensemble in (plain, ahead):
                together = list(pool.map(lambda prompt, one=ensemble: one.generate(prompt, params).token_ids, prompts))
                assert together == alone


def test_each_text_of_two_tokens_is_as_probable_as_without():
    """By enumeration over all tokens that two members with few tokens can begin with."""
    tokenizer = toy_tokenizers.byte_level_bpe(size=300)
    vocabulary = Vocabulary.from_tokenizer(tokenizer, name="tiny")
    ids = [vocabulary.ids_by_token[token] for token in (b"q", b"z", b"x")]
    texts = ["".join(letters) for letters in itertools.product("qzx", repeat=2)]

    def distribution(num_tokens):
        members = [ScriptedMember(vocabulary, [], seed=at, tells_each=True) for at in range(2)]
        for at, member in enumerate(members):
            member.change = lambda text, logits, at=at: torch.full_like(logits, -torch.inf).index_copy(
                0, torch.tensor(ids), torch.tensor([float((len(text) * (3 + at) + k) % 4) for k in range(3)])
            )
        config = EnsembleConfig(members=("a", "b"), num_speculative_tokens=num_tokens, weights=(0.5, 0.5))
        with Ensemble(members, config) as ensemble:
            return [ensemble.score("qzxqzxqz", text).logprob for text in texts]

    plain, ahead = distribution(0), distribution(8)
    assert ahead == pytest.approx(plain, abs=1e-6)
    assert float(torch.tensor(ahead).exp().sum()) == pytest.approx(1.0, abs=1e-4)


def make_scripted(texts=(STORY,), **settings):
    vocabularies = {kind: Vocabulary.from_tokenizer(TOKENIZERS[kind](), name=kind) for kind in ("bpe", "unigram")}
    members = [ScriptedMember(vocabulary, texts, tells_each=True) for vocabulary in vocabularies.values()]
    return members, EnsembleConfig(members=("bpe", "unigram"), **settings)


def test_a_text_that_is_repeated_takes_far_fewer_passes_of_the_main_model():
    members, config = make_scripted()
    with Ensemble(members, config) as ensemble:
        generation = ensemble.generate(STORY[:5], SamplingParams(max_new_tokens=200))
    assert generation.text == STORY[5:]
    assert generation.fusion.num_accepted > 5
    assert len(members[0].passes) <= len(generation.token_ids) + 1 - generation.fusion.num_accepted
    assert not any(member.rows for member in members)


def test_a_text_that_is_scored_takes_a_pass_for_the_prompt_and_one_for_the_rest():
    members, config = make_scripted()
    with Ensemble(members, config) as ensemble:
        score = ensemble.score(STORY[:9], STORY[9:40])
    assert score.num_tokens > 4 and score.fusion.num_accepted == score.num_tokens - 2
    assert len(members[0].passes) == 2


def test_without_members_that_can_tell_each_nothing_is_read_ahead():
    members, config = make_scripted()
    for member in members:
        member._tells_each = False
    with Ensemble(members, config) as ensemble:
        generation = ensemble.generate(STORY[:5], SamplingParams(max_new_tokens=200))
    assert generation.text == STORY[5:] and generation.fusion.num_drafted == 0


def test_reading_ahead_stops_where_a_members_context_does():
    members, config = make_scripted()
    for member in members:
        member.context_length = 40
    with Ensemble(members, config) as ensemble:
        generation = ensemble.generate(STORY[:5], SamplingParams(max_new_tokens=200))
    assert generation.finish_reason == "length"
    assert STORY[5:].startswith(generation.text)


def fail_on_drafts(fed):
    """Any pass of several tokens but that of a prompt."""
    if any(1 < len(ids) < 6 for ids in fed.values()):
        raise OSError("broken")


@pytest.mark.parametrize("at", [0, 1])
def test_a_member_that_fails_while_it_reads_ahead_fails_the_answer_and_no_other(at):
    members, config = make_scripted()
    faulty = [FaultyMember(member) for member in members]
    with Ensemble(faulty, config) as ensemble:
        first = ensemble.generate(STORY[:5], SamplingParams(max_new_tokens=200))
        members[at].before_pass = fail_on_drafts
        with pytest.raises(MemberError, match="broken"):
            ensemble.generate(STORY[:5], SamplingParams(max_new_tokens=200))
        members[at].before_pass = lambda fed: None
        again = ensemble.generate(STORY[:5], SamplingParams(max_new_tokens=200))
    assert again.text == first.text
    assert not any(member.num_open for member in faulty)


class Large(ScriptedMember):
    """Of weights that take a while to read."""

    weight_bytes = 1 << 30


def make_engine_sequences(kind, num_tokens=40):
    """Three answers to the same engine, of members of a kind, and how many tokens each had at every step."""
    vocabulary = Vocabulary.from_tokenizer(TOKENIZERS["bpe"](), name="bpe")
    member = kind(vocabulary, [STORY, STORY[4:], STORY[10:]], tells_each=True)
    with Ensemble([member], EnsembleConfig(members=("bpe",))) as ensemble:
        prompts = [STORY[:9], STORY[4:12], STORY[10:20]]
        answers = ensemble.generate(prompts, SamplingParams(max_new_tokens=num_tokens))
        num_steps = ensemble.step_times.num_steps
    return answers, num_steps


def test_where_passes_are_dear_answers_that_were_foreseen_go_first():
    answers, num_steps = make_engine_sequences(Large)
    assert [STORY[9:], STORY[12:], STORY[20:]] == [answer.text for answer in answers]
    assert sum(answer.fusion.num_accepted for answer in answers) > 5
    assert num_steps > max(answer.usage.completion_tokens for answer in answers)


def test_where_passes_are_cheap_many_answers_step_together_and_draft_nothing():
    answers, num_steps = make_engine_sequences(ScriptedMember)
    assert [STORY[9:], STORY[12:], STORY[20:]] == [answer.text for answer in answers]
    assert num_steps <= max(answer.usage.completion_tokens for answer in answers) + 3
