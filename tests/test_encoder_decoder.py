"""Members with an encoder in an ensemble: alone, as main model, and beside others."""

from __future__ import annotations

import math

import pytest
import torch

from deepen_llm import Ensemble, EnsembleConfig, FusionConfig, MemberConfig, SamplingParams
from deepen_llm.errors import ConfigError, ContextLengthError, PromptError
from deepen_llm.members.source import SourceReader
from deepen_llm.members.transformers import TransformersMember
from deepen_llm.testing import ScriptedMember
from tests.encoder_decoders import make_member, make_tokenizer
from tests.models import make_model
from tests.toy_tokenizers import byte_level_bpe
from tests.vocabularies import load_toy

SOURCES = ["the quick brown fox", "Once upon a time", "dog", "What is the capital of France?"]
QUESTION = "Question: what is it?\nAnswer:"
SHORT = SamplingParams(max_new_tokens=8, stop="\n")


class ScriptedTranslator(ScriptedMember):
    """Says its text whatever it reads; `sources` are what its encoder was given.

    As any scripted member's, the text is without the dummy space of the tokenizer.
    """

    def __init__(self, says, start_ids=(0,), **reading):
        super().__init__(load_toy("t5"), says)
        self.sources = []
        self.reader = SourceReader(self.vocabulary, (), (1,), start_ids, 64, **reading)

    @property
    def source_reader(self):
        return self.reader

    def open_over(self, source_ids):
        self.sources.append(self.vocabulary.join(source_ids).decode())
        return self.open()


def make_ensemble(main_says, translator, weights=(0.1, 0.9), **settings):
    """The translator beside a main model that says something else."""
    main = ScriptedMember(load_toy("gpt2"), main_says)
    members = [MemberConfig(model=one.name) for one in (main, translator)]
    return Ensemble([main, translator], EnsembleConfig(members=members, weights=weights, **settings))


@pytest.mark.parametrize("family", ["t5", "m2m100"])
def test_alone_it_answers_as_transformers_generates(family):
    member, tokenizer = make_member(family, seed=3), make_tokenizer(family)
    silent = [token_id for token_id, may_come in enumerate(member.vocabulary.allowed.tolist()) if not may_come]
    with Ensemble([member]) as ensemble:
        answers = ensemble.generate(SOURCES, SamplingParams(max_new_tokens=12))
        for source, answer in zip(SOURCES, answers, strict=True):
            inputs = tokenizer(source, return_tensors="pt")
            options = {"max_new_tokens": 12, "do_sample": False, "suppress_tokens": silent, "forced_eos_token_id": None}
            ids = member._model.generate(**inputs, **options)[0]
            assert tokenizer.decode(ids, skip_special_tokens=True) == answer.text
            assert answer.usage.prompt_tokens == inputs.input_ids.shape[1] + 1


def test_many_sources_in_a_batch_beside_a_main_model_are_answered_as_each_alone():
    tokenizer = byte_level_bpe()
    main = TransformersMember(make_model("gpt2", len(tokenizer)), tokenizer, name="main")
    config = EnsembleConfig(members=[MemberConfig(model="main"), MemberConfig(model="t5")], weights=(0.5, 0.5))
    with Ensemble([main, make_member("t5")], config) as ensemble:
        together = ensemble.generate(SOURCES, SHORT)
        assert [ensemble.generate(source, SHORT).text for source in SOURCES] == [one.text for one in together]
        assert ensemble.members[1]._rows._cache.source.num_rows == 0


@pytest.mark.parametrize(("prompt", "answer"), [(QUESTION, " the dog"), (QUESTION + "\n", "the dog")])
def test_its_first_word_begins_as_the_main_models_answer_does(prompt, answer):
    translator = ScriptedTranslator(["the dog"])
    with make_ensemble([prompt + answer.replace("the dog", "girl")], translator) as ensemble:
        assert ensemble.generate(prompt, SHORT).text == answer
        assert ensemble.score(prompt, answer).logprob > -2 > ensemble.score(prompt, answer[:-3] + "fox").logprob


def test_as_main_model_beside_one_that_continues_the_prompt_the_answer_begins_with_its_space():
    translator = ScriptedTranslator(["the dog"])
    with make_ensemble([QUESTION + " dog"], translator, main=1) as ensemble:
        assert ensemble.generate(QUESTION, SHORT).text == " the dog"
    with Ensemble([ScriptedTranslator(["the dog"])]) as alone:
        assert alone.generate(QUESTION, SHORT).text == "the dog"


def test_its_encoder_reads_the_prompt_the_last_message_of_the_user_or_what_the_request_names():
    translator = ScriptedTranslator(["Paris"], before="say: ")
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "the dog"}]
    chat += [{"role": "assistant", "content": "yes"}, {"role": "user", "content": "the fox"}]
    with make_ensemble([QUESTION + " Paris"], translator) as ensemble:
        assert ensemble.has_chat_template
        ensemble.generate("the lazy dog", SHORT)
        ensemble.chat(chat, SHORT)
        ensemble.chat(chat, SHORT.replace(source="a girl"))
        "".join(chunk.text for chunk in ensemble.stream(QUESTION, SHORT.replace(source="a park")))
        ensemble.score("a day", " Paris")
    assert translator.sources == [f" say: {one}" for one in ("the lazy dog", "the fox", "a girl", "a park", "a day")]


@pytest.mark.parametrize(
    "fusion", [FusionConfig(fuse="safe"), FusionConfig(method="text"), FusionConfig(method="union")]
)
def test_it_works_with_every_way_to_fuse(fusion):
    with make_ensemble([QUESTION + " girl"], ScriptedTranslator(["the dog"]), fusion=fusion) as ensemble:
        assert ensemble.generate(QUESTION, SHORT).text.startswith((" the dog", " girl"))


def test_it_says_what_a_structure_leaves_open():
    with make_ensemble([QUESTION + " girl"], ScriptedTranslator(["the dog"])) as ensemble:
        params = SamplingParams(max_new_tokens=8, regex=" (the dog|girl|fox)")
        assert ensemble.generate(QUESTION, params).text == " the dog"


@pytest.mark.parametrize("start_ids", [(0,), (0, 2)])
@pytest.mark.parametrize("weights", ["adaptive", "prompt"])
def test_weights_by_the_prompt_compare_the_others_and_leave_it_what_it_has(weights, start_ids):
    prompt = "The quick brown fox jumps over the lazy dog, and the dog does not mind. Answer:"
    translator = ScriptedTranslator(["Paris"], start_ids)
    knows = ScriptedMember(load_toy("gpt2"), [prompt + " Paris"])
    guesses = ScriptedMember(load_toy("cl100k"), ["Paris"])
    with Ensemble(
        [knows, guesses, translator],
        EnsembleConfig(members=[MemberConfig(model=name) for name in "abc"], weights=weights),
    ) as ensemble:
        fusion = ensemble.generate(prompt, SamplingParams(max_new_tokens=1)).fusion
    first, second, third = fusion.weights
    assert first > 3 * second and third > 2 * second
    assert weights == "adaptive" or math.isclose(third, 1 / 3)


def test_a_source_without_a_member_that_reads_it_is_refused_by_name():
    said = r"source='the dog' is for members with an encoder .*'gpt2' have none"
    with Ensemble([ScriptedMember(load_toy("gpt2"), ["a"])]) as ensemble, pytest.raises(ConfigError, match=said):
        ensemble.generate("a", SamplingParams(source="the dog"))


def test_a_prompt_too_long_for_the_encoder_is_refused_unless_a_part_of_it_is_named():
    long = "Is it a dog? " * 40 + "Answer:"
    with make_ensemble([long + " dog"], ScriptedTranslator(["dog"])) as ensemble:
        with pytest.raises(ContextLengthError, match="member 't5', whose encoder reads 64"):
            ensemble.generate(long, SHORT)
        assert ensemble.generate(long, SHORT.replace(source="dog")).text == " dog"


def test_an_empty_source_is_refused_before_anything_runs():
    with make_ensemble(["a"], ScriptedTranslator(["a"])) as ensemble:
        for prompt, params in (("a", SamplingParams(source=" ")), ("\n", SHORT)):
            with pytest.raises(PromptError, match="the source must not be empty"):
                ensemble.generate(prompt, params)


def test_the_encoder_reads_a_source_once():
    member = make_member("t5")
    passes = []
    member._model.get_encoder().register_forward_hook(lambda *_: passes.append(1))
    with Ensemble([member]) as ensemble:
        answer = ensemble.generate(SOURCES[0], SamplingParams(max_new_tokens=12, ignore_eos=True))
    assert len(answer.token_ids) == 12 and passes == [1]
    assert torch.is_inference_mode_enabled() is False
