"""What cannot be asked where one member is drawn for each word is refused by name, and what to type instead is said."""

from __future__ import annotations

import asyncio

import pytest

from deepen_llm import EnsembleConfig, FusionConfig, SamplingParams
from deepen_llm.errors import ConfigError
from deepen_llm.requests.drawn import check_drawn_params

DRAWN = FusionConfig(method="text", fuse="drawn")
REFUSED = {
    "temperature": 0.5,
    "top_k": 3,
    "top_p": 0.9,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "logit_bias": {5: 1.0},
    "min_new_tokens": 2,
    "ignore_eos": True,
    "logprobs": 0,
    "trace": True,
    "json_schema": {"type": "object"},
    "regex": "a+",
    "grammar": 'start: "a"',
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_setting_that_cannot_be_had_is_refused_by_name(name):
    with pytest.raises(ConfigError, match=rf"fuse='drawn' .*{name}.*fuse='always'"):
        check_drawn_params(SamplingParams(**{"temperature": 1.0, name: REFUSED[name]}))


def test_greedy_answers_are_refused_with_what_to_type():
    with pytest.raises(ConfigError, match=r"temperature=0: write SamplingParams\(temperature=1.0\)"):
        check_drawn_params(SamplingParams())


def test_a_plain_answer_at_temperature_one_is_not_refused():
    check_drawn_params(SamplingParams(temperature=1.0, seed=3, n=4, stop=("x",), max_new_tokens=7, prior=(0.5, 0.5)))


def test_scores_and_logprobs_of_prompts_are_refused(make_ensemble):
    ensemble = make_ensemble(["abc"], ("bpe", "sentencepiece"), fusion=DRAWN)
    with pytest.raises(ConfigError, match="scores need what every member says"):
        ensemble.score("a", "bc")
    with pytest.raises(ConfigError, match="scores need what every member says"):
        ensemble.score_chat([{"role": "user", "content": "a"}], "bc")
    with pytest.raises(ConfigError, match="log-probabilities of a prompt need what every member says"):
        asyncio.run(ensemble.aprompt_logprobs("abc"))
    with pytest.raises(ConfigError, match="at temperature 1"):
        ensemble.generate("abc")
    with pytest.raises(ConfigError, match="at temperature 1"):
        ensemble.stream("abc")


def test_special_tokens_and_what_the_model_itself_rules_out_are_refused(make_ensemble):
    ensemble = make_ensemble(["abc"], ("bpe", "sentencepiece"), fusion=DRAWN)
    with pytest.raises(ConfigError, match="only the main model knows its special tokens"):
        ensemble.generate("abc", SamplingParams(temperature=1.0, stop=("<|im_start|>",)))


def test_a_member_alone_is_asked_for_anything(make_ensemble):
    ensemble = make_ensemble(["abc def"], ("bpe",), fusion=DRAWN)
    assert ensemble.generate("abc", SamplingParams(logprobs=2)).text == " def"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "relative"}, "got method='relative': write method='text', or fuse='always'"),
        ({"method": "union"}, "got method='union': write method='text'"),
        ({"method": "equal_text"}, "got method='equal_text': write method='text'"),
        ({"method": "text", "mean": "geometric"}, "write mean='arithmetic'"),
        ({"method": "text", "trust": 0.5}, "trust=0.5 needs the main model's distribution"),
        ({"method": "text", "main_ends": True}, "main_ends=True needs the main model's distribution"),
        ({"method": "text", "max_rows": 3}, "max_rows is about expanding tokens"),
        ({"method": "text", "confidence": 0.5}, "confidence=0.5 means nothing with fuse='drawn'"),
    ],
)
def test_fusion_that_cannot_be_drawn_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        FusionConfig(fuse="drawn", **settings)


def test_weights_that_learn_from_all_members_are_refused():
    with pytest.raises(ConfigError, match=r"weights='adaptive' learn .*: write weights=\[...\]"):
        EnsembleConfig(members=("a", "b"), weights="adaptive", fusion=DRAWN)
    for weights in ("prompt", (0.5, 0.5), None):
        EnsembleConfig(members=("a", "b"), weights=weights, fusion=DRAWN)


def test_weights_that_are_not_given_come_from_the_prompt():
    weights = EnsembleConfig(members=("a", "b"), fusion=DRAWN).request_weights
    assert weights.kind == "prompt"
