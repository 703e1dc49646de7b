"""An ensemble of one with penalties, bias and a minimum says what `generate` of transformers says."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from deepen_llm import Ensemble, SamplingParams
from deepen_llm.starter import model_paths

BEGINNINGS = ("Once upon a time", "The capital of France", "My favourite food is", "In 1969, people")
PROMPTS = [f"{begin} {end}" for begin in BEGINNINGS for end in ("there was", "is", "and then the", "because", "of the")]
NUM_TOKENS = 10


@pytest.fixture(scope="module")
def starter():
    path = next(path for path in model_paths() if path.name == "llama")
    with Ensemble.from_pretrained([str(path)]) as ensemble:
        yield ensemble, AutoModelForCausalLM.from_pretrained(path)


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.3},
        {"min_new_tokens": NUM_TOKENS},
        {"logit_bias": {16: -100.0, 364: -2.0, 292: 1.5}},
        {"repetition_penalty": 1.2, "min_new_tokens": 8, "logit_bias": {16: -3.0}},
    ],
    ids=lambda settings: "+".join(settings),
)
def test_greedy_answers_to_twenty_prompts_are_equal(starter, settings):
    ensemble, model = starter
    vocabulary = ensemble.members[0].vocabulary
    given = dict(settings)
    if "logit_bias" in given:
        given["sequence_bias"] = [[[token_id], bias] for token_id, bias in given.pop("logit_bias").items()]
    never = torch.nonzero(~vocabulary.allowed).flatten().tolist()
    answers = ensemble.generate(PROMPTS, SamplingParams(max_new_tokens=NUM_TOKENS, **settings))
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = torch.tensor([vocabulary.encode_prompt(prompt).ids])
        expected = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NUM_TOKENS,
            do_sample=False,
            suppress_tokens=never,
            **given,
        )
        assert answer.token_ids == tuple(expected[0, ids.shape[1] :].tolist())
