"""`DeepenLLM` over a fake ensemble: text, options, callbacks, usage and errors. Async has a file of its own."""

import json
import math

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate

from deepen_llm.errors import ConfigError, MemberError, PromptError
from deepen_llm.results import FusionReport
from langchain_deepen import DeepenLLM

PROMPT = "Where?"
ANSWER = "The answer is 6."


@pytest.fixture
def llm(ensemble):
    return DeepenLLM(ensemble=ensemble)


def test_invoke_returns_the_answer_without_the_prompt(llm):
    assert llm.invoke(PROMPT) == ANSWER


def test_a_chain_answers_and_streams(llm):
    chain = PromptTemplate.from_template("{where}?") | llm | StrOutputParser()
    assert chain.invoke({"where": "Where"}) == ANSWER
    assert "".join(chain.stream({"where": "Where"})) == ANSWER


def test_a_batch_is_one_engine_call(llm, ensemble):
    assert llm.batch(["a", "bb", "ccc"]) == ["The answer is 1.", "The answer is 2.", "The answer is 3."]
    assert [(method, prompts) for method, prompts, _ in ensemble.calls] == [("generate", ["a", "bb", "ccc"])]


def test_max_concurrency_cuts_a_batch_into_calls(llm, ensemble):
    llm.batch(["a", "bb", "ccc"], config={"max_concurrency": 2})
    assert [prompts for _, prompts, _ in ensemble.calls] == [["a", "bb"], ["ccc"]]


def test_an_empty_batch_calls_nothing(llm, ensemble):
    assert llm.batch([]) == []
    assert llm.batch([], return_exceptions=True) == []
    assert ensemble.calls == []


def test_streamed_pieces_join_to_the_answer_and_only_the_last_may_be_empty(llm):
    pieces = list(llm.stream(PROMPT))
    assert "".join(pieces) == ANSWER
    assert all(pieces[:-1])
    assert len(pieces) == 6


CALLS = {
    "invoke": lambda llm, **options: llm.invoke(PROMPT, **options),
    "bind": lambda llm, **options: llm.bind(**options).invoke(PROMPT),
    "batch": lambda llm, **options: llm.batch([PROMPT], **options)[0],
    "stream": lambda llm, **options: "".join(llm.stream(PROMPT, **options)),
    "generate": lambda llm, **options: llm.generate([PROMPT], **options).generations[0][0].text,
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_options_of_one_call_reach_the_engine(call, llm, ensemble):
    assert call(llm, max_tokens=2, temperature=0.5, top_p=0.9, top_k=4, min_p=0.1, seed=7) == "The answer"
    params = ensemble.params
    assert (params.max_new_tokens, params.temperature, params.top_p) == (2, 0.5, 0.9)
    assert (params.top_k, params.min_p, params.seed) == (4, 0.1, 7)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_stop_of_one_call_cuts_the_answer(call, llm):
    assert call(llm, stop=[" is"]) == "The answer"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_unknown_option_is_refused_by_name(call, llm, ensemble):
    with pytest.raises(ConfigError, match=r"no option 'temprature': did you mean 'temperature'\?"):
        call(llm, temprature=1.0)
    assert ensemble.calls == []


def test_an_option_of_one_call_counts_for_that_call_alone(ensemble):
    llm = DeepenLLM(ensemble=ensemble, max_tokens=3)
    assert llm.invoke(PROMPT, max_new_tokens=1) == "The"
    assert llm.invoke(PROMPT) == "The answer is"
    assert llm.invoke(PROMPT, max_tokens=None) == "The answer is"


def test_the_calls_own_stop_takes_the_place_of_the_constructors(ensemble):
    llm = DeepenLLM(ensemble=ensemble, stop=[" is"])
    assert llm.invoke(PROMPT) == "The answer"
    assert llm.invoke(PROMPT, stop=[" answer"]) == "The"
    assert llm.invoke(PROMPT, stop=[]) == ANSWER
    assert DeepenLLM(ensemble=ensemble, stop=[]).invoke(PROMPT, stop=[" is"]) == "The answer"


def test_bad_values_are_refused_before_anything_runs(llm, ensemble):
    with pytest.raises(ConfigError, match=r"^max_tokens: .* got 0"):
        llm.invoke(PROMPT, max_tokens=0)
    with pytest.raises(ConfigError, match="stop strings must not be empty"):
        llm.invoke(PROMPT, stop=[""])
    with pytest.raises(ConfigError, match="max_tokens and max_new_tokens are one option"):
        llm.invoke(PROMPT, max_tokens=3, max_new_tokens=4)
    assert ensemble.calls == []


def test_every_prompt_has_its_usage_and_finish_reason(llm):
    result = llm.generate(["a", "bbb"], max_tokens=4)
    assert [generation[0].generation_info for generation in result.generations] == [
        {
            "finish_reason": "length",
            "token_usage": {"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5},
        },
        {
            "finish_reason": "length",
            "token_usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
        },
    ]
    assert result.llm_output == {
        "model_name": "a+b",
        "token_usage": {"prompt_tokens": 4, "completion_tokens": 8, "total_tokens": 12},
    }


def test_callbacks_receive_every_token_with_its_chunk_before_the_caller_does(llm, recorder):
    for piece in llm.stream(PROMPT, config={"callbacks": [recorder]}):
        assert recorder.tokens[-1] == piece
    assert recorder.tokens == ["The", " answer", " is", " 6", ".", ""]
    assert [chunk.text for chunk in recorder.chunks] == recorder.tokens


def test_a_streams_whole_has_finish_reason_and_usage_once(llm, recorder):
    list(llm.stream(PROMPT, config={"callbacks": [recorder]}))
    generation = recorder.results[0].generations[0][0]
    assert generation.text == ANSWER
    assert generation.generation_info == {
        "finish_reason": "stop",
        "token_usage": {"prompt_tokens": 6, "completion_tokens": 5, "total_tokens": 11},
    }


def test_streaming_sends_tokens_from_invoke_too(ensemble, recorder):
    llm = DeepenLLM(ensemble=ensemble, streaming=True)
    assert llm.invoke(PROMPT, config={"callbacks": [recorder]}) == ANSWER
    assert "".join(recorder.tokens) == ANSWER
    info = recorder.results[0].generations[0][0].generation_info
    assert info["finish_reason"] == "stop"
    assert recorder.results[0].llm_output["token_usage"] == info["token_usage"]


def test_streaming_sends_a_batchs_tokens_to_their_own_runs(ensemble, recorder):
    llm = DeepenLLM(ensemble=ensemble, streaming=True)
    answers = llm.batch(["a", "bb"], config={"callbacks": [recorder]})
    assert answers == ["The answer is 1.", "The answer is 2."]
    assert sorted("".join(tokens) for tokens in recorder.tokens_by_run.values()) == answers


def test_generate_of_several_prompts_sends_whole_answers(ensemble, recorder):
    llm = DeepenLLM(ensemble=ensemble, streaming=True)
    llm.generate(["a", "bb"], callbacks=[recorder])
    assert recorder.tokens == []
    assert [result.generations[0][0].text for result in recorder.results] == ["The answer is 1.", "The answer is 2."]


def test_callbacks_are_told_the_options_in_force(llm, recorder):
    llm.invoke(PROMPT, config={"callbacks": [recorder]}, max_tokens=3)
    assert recorder.starts[0]["invocation_params"]["options"]["max_new_tokens"] == 3
    assert recorder.starts[0]["metadata"]["ls_max_tokens"] == 3


def test_logprobs_and_trace_are_lists_that_streams_join(ensemble, recorder):
    llm = DeepenLLM(ensemble=ensemble, logprobs=1, trace=True)
    whole = llm.generate([PROMPT]).generations[0][0].generation_info
    list(llm.stream(PROMPT, config={"callbacks": [recorder]}))
    assert recorder.results[0].generations[0][0].generation_info == whole
    assert [token["token"] for token in whole["logprobs"]["content"]] == ["The", " answer", " is", " 6", "."]
    assert whole["logprobs"]["content"][0]["top_logprobs"] == [
        {"token": "The", "token_id": 0, "logprob": pytest.approx(math.log(0.5))}
    ]
    assert whole["trace"][0]["changed_by"] == ["b"]
    assert json.loads(json.dumps(whole)) == whole


def test_an_error_in_a_stream_surfaces_at_once_and_reaches_the_callbacks(make_ensemble, recorder):
    ensemble = make_ensemble(fails_after=2)
    llm = DeepenLLM(ensemble=ensemble)
    pieces = llm.stream(PROMPT, config={"callbacks": [recorder]})
    assert [next(pieces), next(pieces)] == ["The", " answer"]
    with pytest.raises(MemberError, match="member 'b' failed at step 2"):
        next(pieces)
    assert len(recorder.errors) == 1
    ensemble.fails_after = None
    assert llm.invoke(PROMPT) == ANSWER


def test_an_abandoned_stream_stops_the_engine(llm, ensemble):
    pieces = llm.stream(PROMPT)
    next(pieces)
    assert ensemble.num_running == 1
    pieces.close()
    assert (ensemble.num_running, ensemble.num_cancelled) == (0, 1)


def test_a_finished_stream_cancels_nothing(llm, ensemble):
    list(llm.stream(PROMPT))
    assert (ensemble.num_running, ensemble.num_cancelled) == (0, 0)


def test_one_bad_prompt_fails_the_batch(llm):
    with pytest.raises(PromptError, match="takes 512"):
        llm.batch(["a", "too long"])


def test_with_return_exceptions_a_bad_prompt_fails_alone(llm):
    first, second = llm.batch(["a", "too long"], return_exceptions=True)
    assert first == "The answer is 1."
    assert isinstance(second, PromptError)


def test_return_exceptions_runs_as_many_side_by_side_as_the_engine_takes(llm, ensemble):
    configs = llm._side_by_side(["a"] * 20, None)
    assert {config["max_concurrency"] for config in configs} == {ensemble.config.max_batch_size}
    configs = llm._side_by_side(["a"] * 20, {"max_concurrency": 2})
    assert {config["max_concurrency"] for config in configs} == {2}


def test_the_last_weights_are_told_by_name_also_in_a_stream(llm, ensemble):
    ensemble.fusion = FusionReport(4, 3, 0, 0, 0.0, weights=(0.25, 0.75))
    whole = llm.generate([PROMPT]).generations[0][0].generation_info
    *_, last = llm._stream(PROMPT)
    assert whole["weights"] == last.generation_info["weights"] == {"a": 0.25, "b": 0.75}
    assert json.loads(json.dumps(whole)) == whole


def test_n_answers_are_as_many_generations_of_each_prompt(llm, ensemble):
    result = llm.generate([PROMPT, "a"], n=2, temperature=1.0)
    assert [[one.text for one in answers] for answers in result.generations] == [[ANSWER] * 2, ["The answer is 1."] * 2]
    assert result.llm_output["token_usage"] == {"prompt_tokens": 7, "completion_tokens": 20, "total_tokens": 27}
    assert ensemble.params.n == 2
    with pytest.raises(ConfigError, match="n=2 with temperature=0: all would be equal"):
        llm.generate([PROMPT], n=2)


def test_penalties_bias_minimum_and_stop_tokens_are_options_of_the_model_and_of_a_call(ensemble):
    options = {
        "repetition_penalty": 1.2,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "logit_bias": {"50": -100, " Paris": 5},
        "min_new_tokens": 2,
        "stop_token_ids": [3],
    }
    expected = {**options, "logit_bias": {50: -100.0, " Paris": 5.0}, "stop_token_ids": (3,)}
    DeepenLLM(ensemble=ensemble, **options).invoke(PROMPT)
    assert ensemble.params.model_dump(include=set(options)) == expected
    DeepenLLM(ensemble=ensemble).invoke(PROMPT, **options)
    assert ensemble.params.model_dump(include=set(options)) == expected
    with pytest.raises(ConfigError, match=r"repetition_penalty: .* greater than 0; got 0"):
        DeepenLLM(ensemble=ensemble, repetition_penalty=0)
    with pytest.raises(ConfigError, match=r"logit_bias has numbers from -100 to 100; got 101"):
        DeepenLLM(ensemble=ensemble).invoke(PROMPT, logit_bias={5: 101})
