"""DeepenLLM over an ensemble without models: prompts, options, metadata, errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.llms import ChatMessage, CustomLLM, MessageRole
from llama_index.core.prompts import PromptTemplate

from deepen_llm.errors import ClosedError, ConfigError, MemberTimeoutError
from llama_index.llms.deepen import DeepenLLM, PromptRefusedError

QUESTION = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Capital?")]
PLAIN_QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital?"}]


async def _call(llm, method, argument, **kwargs):
    """The last response of any of the eight methods."""
    result = getattr(llm, method)(argument, **kwargs)
    if method.startswith("a"):
        result = await result
    if "stream" not in method:
        return result
    return [response async for response in result][-1] if method.startswith("a") else list(result)[-1]


COMPLETIONS = ("complete", "stream_complete", "acomplete", "astream_complete")
CHATS = ("chat", "stream_chat", "achat", "astream_chat")


def test_it_is_an_llm_of_llama_index(llm):
    assert BaseLLM in type(llm).__mro__ and CustomLLM in type(llm).__mro__
    assert llm.class_name() == "DeepenLLM"


def test_importing_it_imports_no_torch():
    code = "import sys, llama_index.llms.deepen; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("method", COMPLETIONS)
async def test_a_formatted_prompt_reaches_the_engine_as_it_stands(llm, ensemble, method):
    response = await _call(llm, method, "Capital?", formatted=True)
    assert response.text == "Paris is it."
    assert ensemble.calls[0][1] == "Capital?"


@pytest.mark.parametrize("method", COMPLETIONS)
async def test_an_unformatted_prompt_is_one_user_message_of_a_chat_model(llm, ensemble, method):
    await _call(llm, method, "Capital?")
    assert ensemble.calls[0][1] == [{"role": "user", "content": "Capital?"}]


@pytest.mark.parametrize("method", COMPLETIONS)
async def test_an_unformatted_prompt_of_another_model_stays_as_it_is(ensemble, method):
    ensemble.has_chat_template = False
    await _call(DeepenLLM(ensemble=ensemble), method, "Capital?")
    assert ensemble.calls[0][1] == "Capital?"


@pytest.mark.parametrize("method", COMPLETIONS)
async def test_completion_to_prompt_is_honoured_once(ensemble, method):
    llm = DeepenLLM(ensemble=ensemble, completion_to_prompt=lambda prompt: f"<{prompt}>")
    await _call(llm, method, "Capital?")
    await _call(llm, method, "Capital?", formatted=True)
    assert [content for _, content, _ in ensemble.calls] == ["<Capital?>", "Capital?"]
    assert not llm.metadata.is_chat_model


@pytest.mark.parametrize("method", CHATS)
async def test_messages_reach_the_engine_for_each_members_own_template(llm, ensemble, method):
    response = await _call(llm, method, QUESTION)
    assert response.message.content == "Paris is it."
    assert response.message.role == MessageRole.ASSISTANT
    assert ensemble.calls[0][:2] == (method, PLAIN_QUESTION)


@pytest.mark.parametrize("method", CHATS)
async def test_messages_to_prompt_is_honoured(ensemble, method):
    llm = DeepenLLM(ensemble=ensemble, messages_to_prompt=lambda messages: "|".join(m.content for m in messages))
    response = await _call(llm, method, QUESTION)
    assert response.message.content == "Paris is it."
    assert ensemble.calls[0][1] == "Be brief.|Capital?"


@pytest.mark.parametrize("method", COMPLETIONS + CHATS)
async def test_how_an_answer_came_about_is_in_raw_which_is_json(llm, method):
    response = await _call(llm, method, QUESTION if method in CHATS else "Capital?")
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "cached_tokens": 0, "total_tokens": 18}
    assert json.loads(json.dumps(response.raw)) == {
        "model_name": "alpha+beta",
        "usage": usage,
        "finish_reason": "stop",
        "share_fused": 0.75,
        "weights": {"alpha": 0.25, "beta": 0.75},
    }


@pytest.mark.parametrize("method", COMPLETIONS + CHATS)
async def test_the_options_of_a_call_go_on_top_of_the_llms_own(ensemble, method):
    llm = DeepenLLM(ensemble=ensemble, temperature=0.5, max_tokens=9, top_p=0.9, stop=["\n"], seed=1)
    argument = QUESTION if method in CHATS else "Capital?"
    await _call(llm, method, argument, max_tokens=5, stop="x", seed=None, min_p=0.1, temperature=None)
    params = ensemble.calls[0][2]
    assert (params.max_new_tokens, params.stop, params.seed, params.min_p) == (5, ("x",), None, 0.1)
    assert (params.temperature, params.top_p) == (0.5, 0.9)
    await _call(llm, method, argument, max_new_tokens=6)
    assert (ensemble.calls[1][2].max_new_tokens, ensemble.calls[1][2].stop) == (6, ("\n",))


@pytest.mark.parametrize("method", COMPLETIONS + CHATS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temprature": 1}, "no option 'temprature': did you mean 'temperature'"),
        ({"functions": []}, "no option 'functions': known options: .*max_tokens"),
        ({"max_tokens": 0}, "^max_tokens: .*greater than or equal to 1; got 0"),
        ({"stop": [""]}, "stop strings must not be empty"),
        ({"max_tokens": 3, "max_new_tokens": 4}, "one option; got 3 and 4: give one"),
        ({"temperature": 0, "top_p": 0.9}, r"temperature=0 takes the best token, so top_p=0\.9 can never matter"),
        ({"regex": "a", "stop": ["x"]}, r"an answer of a given regex must not be cut; got stop=\['x'\]"),
        ({"regex": "a", "grammar": "b"}, "one structure; got regex and grammar"),
        ({"timeout": 0}, "^timeout: .* greater than 0; got 0"),
        ({"timeout": "1"}, "^timeout: .* valid number; got '1'"),
    ],
)
async def test_a_wrong_option_is_an_error_before_the_engine_works(llm, ensemble, method, options, message):
    with pytest.raises(ConfigError, match=message):
        await _call(llm, method, QUESTION if method in CHATS else "Capital?", **options)
    assert ensemble.calls == []


def test_greedy_decoding_and_top_p_contradict_each_other_on_one_level(ensemble):
    with pytest.raises(ConfigError, match="temperature=0 takes the best token"):
        DeepenLLM(ensemble=ensemble, temperature=0).complete("Capital?", top_p=0.5)
    DeepenLLM(ensemble=ensemble, top_p=0.5).complete("Capital?", temperature=0)
    DeepenLLM(ensemble=ensemble).complete("Capital?", top_p=0.5)
    assert [params.top_p for _, _, params in ensemble.calls] == [1.0, 0.5]


def test_a_wrong_option_of_a_stream_raises_at_the_call(llm):
    with pytest.raises(ConfigError, match="temprature"):
        llm.stream_complete("Capital?", temprature=1)


@pytest.mark.parametrize("method", COMPLETIONS + CHATS)
@pytest.mark.parametrize("error", [MemberTimeoutError("too late"), ClosedError("closed")])
async def test_the_engines_errors_arrive_as_they_are(llm, ensemble, method, error):
    ensemble.error = error
    with pytest.raises(type(error), match=str(error)):
        await _call(llm, method, QUESTION if method in CHATS else "Capital?")
    assert ensemble.num_running == 0


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "at least one message"),
        (
            [ChatMessage(role="user", blocks=[{"block_type": "image", "url": "file:///x.png"}])],
            r"message 0 \(user\) must hold text only; got a block of type 'image'",
        ),
        ([QUESTION[0], ChatMessage(blocks=[{"block_type": "audio", "url": "file:///x.wav"}])], "message 1 .* 'audio'"),
    ],
)
def test_messages_that_are_not_plain_text_are_refused_by_name(llm, ensemble, messages, message):
    with pytest.raises(PromptRefusedError, match=message):
        llm.chat(messages)
    assert ensemble.calls == []


def test_messages_are_no_prompt(llm):
    with pytest.raises(PromptRefusedError, match="must be a string; got list"):
        llm.complete(QUESTION)


def test_every_role_of_a_conversation_has_its_plain_name(llm, ensemble):
    roles = ("developer", "user", "model", "tool", "chatbot", "function", "assistant")
    llm.chat([ChatMessage(role=role, content=role) for role in roles])
    plain = [message["role"] for message in ensemble.calls[0][1]]
    assert plain == ["system", "user", "assistant", "user", "assistant", "user", "assistant"]


def test_metadata_is_true_to_the_ensemble(ensemble):
    metadata = DeepenLLM(ensemble=ensemble, max_tokens=17).metadata
    around = len(b"<->x<->x") + 1
    assert (metadata.context_window, metadata.num_output) == (512 - around - 1, 17)
    assert metadata.model_name == "alpha+beta"
    assert DeepenLLM(ensemble=ensemble, is_chat_model=False).metadata.context_window == 512 - 1 - 1
    assert metadata.is_chat_model and metadata.is_function_calling_model


def test_functions_are_called_wherever_messages_can_be_read(ensemble):
    assert DeepenLLM(ensemble=ensemble, is_chat_model=False).metadata.is_function_calling_model
    ensemble.has_chat_template = False
    assert not DeepenLLM(ensemble=ensemble).metadata.is_function_calling_model
    assert DeepenLLM(ensemble=ensemble, messages_to_prompt=str).metadata.is_function_calling_model


@pytest.mark.parametrize("method", COMPLETIONS + CHATS)
@pytest.mark.parametrize(
    "structure", [{"json_schema": {"type": "integer"}}, {"regex": "[0-9]+"}, {"grammar": 'start: "a"'}]
)
async def test_a_call_can_say_what_its_answer_looks_like(ensemble, method, structure):
    llm = DeepenLLM(ensemble=ensemble, stop=["\n"], ignore_eos=True)
    argument = QUESTION if method in CHATS else "Capital?"
    await _call(llm, method, argument, **structure)
    await _call(llm, method, argument)
    ((name, value),) = structure.items()
    structured, plain = (params for _, _, params in ensemble.calls)
    assert getattr(structured, name) == value and not plain.is_structured
    assert (structured.stop, plain.stop) == ((), ("\n",))
    assert plain.ignore_eos and not structured.ignore_eos


def test_is_chat_model_can_be_said(ensemble):
    assert not DeepenLLM(ensemble=ensemble, is_chat_model=False).metadata.is_chat_model
    ensemble.has_chat_template = False
    assert not DeepenLLM(ensemble=ensemble).metadata.is_chat_model
    assert DeepenLLM(ensemble=ensemble, is_chat_model=True).metadata.is_chat_model


def test_predict_completes_or_chats_as_the_metadata_says(ensemble):
    template = PromptTemplate("Question: {question}\nAnswer:")
    DeepenLLM(ensemble=ensemble, is_chat_model=False).predict(template, question="Capital?")
    DeepenLLM(ensemble=ensemble).predict(template, question="Capital?")
    text = "Question: Capital?\nAnswer:"
    assert [call[:2] for call in ensemble.calls] == [
        ("generate", text),
        ("chat", [{"role": "user", "content": text}]),
    ]


def test_what_observers_see_is_json_and_names_the_members(llm):
    payload = json.loads(json.dumps(llm.to_payload()))
    assert payload["class_name"] == "DeepenLLM"
    assert (payload["model_name"], payload["main"], payload["temperature"]) == ("alpha+beta", "alpha", 0.0)


def test_the_tokenizer_counts_in_the_unit_of_the_context_window(llm):
    assert llm.tokenizer("ab") == [0, 1]


def test_closing_leaves_a_ready_ensemble_to_its_owner(llm, ensemble):
    llm.close()
    assert not ensemble.is_closed
    assert llm.ensemble is ensemble


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"give model= .* or ensemble="),
        ({"model": "starter", "ensemble": object()}, "give ensemble= alone; got model beside it"),
        ({"model": "no.yaml"}, "no configuration file at 'no.yaml'"),
        ({"model": Path("no.yml")}, "no configuration file at 'no.yml'"),
        ({"model": "no.yaml", "member_options": {"dtype": "auto"}}, r"list of models; got \['dtype'\]"),
        ({"model": []}, "at least one member"),
        ({"ensemble": object(), "main": 1}, "give ensemble= alone; got main beside it"),
        ({"model": "starter", "weigths": [1.0]}, "did you mean 'weights'"),
        ({"model": "starter", "max_new_tokens": 3, "max_tokens": 4}, "one option; got 4 and 3: give one"),
        ({"model": "starter", "temperature": 0, "top_p": 0.9}, "temperature=0 takes the best token"),
        ({"model": "starter", "temperature": -1}, "temperature.*got -1"),
        ({"model": "starter", "timeout": -1}, "^timeout: .* got -1"),
        ({"model": "starter", "regex": "a"}, "no setting 'regex'"),
    ],
)
def test_a_constructor_that_cannot_work_says_why(arguments, message):
    with pytest.raises(ConfigError, match=message):
        DeepenLLM(**arguments)


def test_of_n_answers_raw_has_those_that_are_not_the_response(llm, ensemble):
    response = llm.complete("Capital?", n=3, temperature=1.0)
    assert [other["text"] for other in response.raw["alternatives"]] == [response.text] * 2
    usage = {"prompt_tokens": 11, "completion_tokens": 21, "cached_tokens": 0, "total_tokens": 32}
    assert response.raw["usage"] == usage
    assert "alternatives" not in llm.complete("Capital?").raw
    json.dumps(response.raw)


def test_penalties_bias_minimum_and_stop_tokens_are_options_of_the_llm_and_of_a_call(ensemble):
    options = {
        "repetition_penalty": 1.2,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "logit_bias": {"50": -100, " Paris": 5},
        "min_new_tokens": 2,
        "stop_token_ids": [3],
    }
    expected = {**options, "logit_bias": {50: -100.0, " Paris": 5.0}, "stop_token_ids": (3,)}
    llm = DeepenLLM(ensemble=ensemble, **options)
    llm.complete("Capital?")
    assert ensemble.calls[-1][2].model_dump(include=set(options)) == expected
    DeepenLLM(ensemble=ensemble).complete("Capital?", **options)
    assert ensemble.calls[-1][2].model_dump(include=set(options)) == expected
    assert json.loads(json.dumps(llm.to_dict()))["repetition_penalty"] == 1.2
    with pytest.raises(ConfigError, match=r"frequency_penalty: .*; got 3"):
        DeepenLLM(ensemble=ensemble, frequency_penalty=3)


def test_the_nearest_variables_of_chat_templates_reach_the_ensemble(ensemble):
    llm = DeepenLLM(ensemble=ensemble, chat_template_kwargs={"enable_thinking": False})
    for ask in (lambda: llm.chat(QUESTION), lambda: llm.complete("Capital?")):
        ask()
        assert ensemble.chat_options == {"chat_template_kwargs": {"enable_thinking": False}}
    list(llm.stream_chat(QUESTION, chat_template_kwargs={"enable_thinking": True}))
    assert ensemble.chat_options == {"chat_template_kwargs": {"enable_thinking": True}}
