from __future__ import annotations

import pytest

from deepen_llm import Ensemble, SamplingParams
from deepen_llm.errors import VocabularyError
from deepen_llm.evaluation.requests import (
    Answer,
    GenerateRequest,
    ScoreRequest,
    check_expressible,
    read_answer,
    write_answer,
)
from deepen_llm.testing import ScriptedMember
from tests.vocabularies import load_toy

TEXT = "Who? A fox ran home."


def test_a_prompt_that_is_too_long_loses_its_beginning_and_says_so(make_ensemble):
    ensemble = make_ensemble([TEXT], context_length=64)
    long = "Some words that nobody needs. " * 20 + "\n\nWho?"
    answer = GenerateRequest(long, SamplingParams(max_new_tokens=12)).ask(ensemble)
    assert answer.is_shortened
    assert answer.text == GenerateRequest("Who?", SamplingParams(max_new_tokens=12)).ask(ensemble).text


def test_a_score_counts_the_continuation_and_the_fused_steps(make_ensemble):
    ensemble = make_ensemble([TEXT])
    answer, score = ScoreRequest("Who?", " A fox").ask(ensemble), ensemble.score("Who?", " A fox")
    assert (answer.logprob, answer.num_tokens, answer.is_shortened) == (score.logprob, score.num_tokens, False)
    assert answer.num_fused == answer.num_steps == score.num_tokens


def test_text_that_the_main_model_cannot_express_is_refused_by_its_first_such_character():
    member = ScriptedMember(load_toy("unigram without bytes"), [TEXT])
    with Ensemble([member]) as ensemble:
        with pytest.raises(VocabularyError, match=f"{member.name!r} cannot express '\N{SNOWMAN}'"):
            ScoreRequest("Who?", " the \N{SNOWMAN} dog").ask(ensemble)
        check_expressible(ensemble, " the dog")


def test_answers_survive_the_cache():
    answer = Answer(3, "text", -float("inf"), is_greedy=True, num_steps=3, num_fused=2, seconds=0.5)
    assert read_answer(write_answer(answer)) == answer
