"""LangChain's cache: what changes an answer is in the key, what does not is not."""

import pytest
from langchain_core.caches import InMemoryCache
from pydantic import BaseModel

from deepen_llm.frontends.source import EnsembleSource
from langchain_deepen import ChatDeepen, DeepenLLM

PROMPT = "Where?"


@pytest.fixture
def cache():
    return InMemoryCache()


def num_calls(ensemble, model, **options) -> int:
    """How often the engine is asked by one invocation."""
    before = len(ensemble.calls)
    model.invoke(PROMPT, **options)
    return len(ensemble.calls) - before


@pytest.mark.parametrize("model_class", [DeepenLLM, ChatDeepen])
def test_the_same_request_is_answered_from_the_cache(model_class, ensemble, cache):
    model = model_class(ensemble=ensemble, cache=cache)
    assert [num_calls(ensemble, model), num_calls(ensemble, model)] == [1, 0]
    twin = model_class(ensemble=ensemble, cache=cache)
    assert num_calls(ensemble, twin) == 0


@pytest.mark.parametrize("model_class", [DeepenLLM, ChatDeepen])
def test_every_option_of_a_call_is_in_the_key(model_class, ensemble, cache):
    model = model_class(ensemble=ensemble, cache=cache)
    num_calls(ensemble, model)
    for options in (
        {"temperature": 2.0},
        {"temperature": 2.0, "seed": 1},
        {"temperature": 2.0, "seed": 1, "top_k": 3},
        {"max_tokens": 2},
        {"stop": [" is"]},
        {"logprobs": 1},
        {"json_schema": {"type": "object"}},
        {"regex": "a+"},
        {"grammar": "start: TEXT\nTEXT: /a+/"},
    ):
        assert num_calls(ensemble, model, **options) == 1, options
        assert num_calls(ensemble, model, **options) == 0, options
        assert num_calls(ensemble, model.bind(**options)) == 0, options


@pytest.mark.parametrize("model_class", [DeepenLLM, ChatDeepen])
def test_the_constructors_options_are_in_the_key(model_class, ensemble, cache):
    for options in ({}, {"max_tokens": 2}, {"temperature": 1.0}, {"seed": 1}, {"stop": [" is"]}, {"regex": "a+"}):
        assert num_calls(ensemble, model_class(ensemble=ensemble, cache=cache, **options)) == 1, options


@pytest.mark.parametrize("model_class", [DeepenLLM, ChatDeepen])
def test_the_ensemble_is_in_the_key(model_class, make_ensemble, cache):
    for name in ("a", "c"):
        ensemble = make_ensemble(name)
        assert num_calls(ensemble, model_class(ensemble=ensemble, cache=cache)) == 1


def test_an_option_of_a_call_and_of_the_constructor_are_one(ensemble, cache):
    assert num_calls(ensemble, DeepenLLM(ensemble=ensemble, cache=cache), max_tokens=2) == 1
    assert num_calls(ensemble, DeepenLLM(ensemble=ensemble, cache=cache, max_tokens=2)) == 0


def test_a_batch_asks_only_for_what_is_missing(ensemble, cache):
    llm = DeepenLLM(ensemble=ensemble, cache=cache)
    llm.invoke("a", max_tokens=2)
    assert llm.batch(["a", "bb"], max_tokens=2) == ["The answer", "The answer"]
    assert ensemble.calls[-1][1] == ["bb"]


async def test_the_async_twins_use_the_same_keys(ensemble, cache):
    llm = DeepenLLM(ensemble=ensemble, cache=cache)
    assert await llm.ainvoke(PROMPT, max_tokens=2) == "The answer"
    assert await llm.ainvoke(PROMPT) == "The answer is 6."
    assert num_calls(ensemble, llm, max_tokens=2) == 0


def test_a_cached_answer_keeps_its_finish_reason_and_usage(ensemble, cache):
    llm = DeepenLLM(ensemble=ensemble, cache=cache)
    first = llm.generate([PROMPT]).generations
    assert llm.generate([PROMPT]).generations == first
    assert first[0][0].generation_info["finish_reason"] == "stop"


@pytest.mark.parametrize("model_class", [DeepenLLM, ChatDeepen])
def test_two_schemas_of_one_name_are_two_keys(model_class, ensemble, cache):
    model = model_class(ensemble=ensemble, cache=cache)
    for schema in (schema_of(int), schema_of(str)):
        assert num_calls(ensemble, model, json_schema=schema) == 1
        assert num_calls(ensemble, model, json_schema=schema.model_json_schema()) == 0


def schema_of(kind):
    class Point(BaseModel):
        x: kind

    return Point


def test_tools_and_their_choice_are_in_the_key(ensemble, cache):
    chat = ChatDeepen(ensemble=ensemble, cache=cache)
    schemas = [{"title": name, "type": "object", "properties": {}} for name in ("one", "two")]
    for bound in (
        chat,
        chat.bind_tools(schemas),
        chat.bind_tools(schemas[:1]),
        chat.bind_tools(schemas, tool_choice="one"),
        chat.bind_tools(schemas, parallel_tool_calls=True),
        chat.with_structured_output(schemas[0]).first,
        chat.with_structured_output(schemas[1]).first,
    ):
        assert num_calls(ensemble, bound) == 1
        assert num_calls(ensemble, bound) == 0


@pytest.mark.parametrize("model_class", [DeepenLLM, ChatDeepen])
def test_the_time_that_an_answer_may_take_is_not_in_the_key(model_class, ensemble, cache):
    model = model_class(ensemble=ensemble, cache=cache)
    assert [num_calls(ensemble, model), num_calls(ensemble, model, timeout=9.0)] == [1, 0]
    assert num_calls(ensemble, model, timeout_s=8.0) == 0
    assert num_calls(ensemble, model_class(ensemble=ensemble, cache=cache, timeout=7.0)) == 0


@pytest.mark.parametrize("model_class", [DeepenLLM, ChatDeepen])
def test_a_model_of_one_call_is_in_the_key(model_class, ensemble, make_ensemble, cache, monkeypatch):
    monkeypatch.setattr(EnsembleSource, "open", lambda source: make_ensemble(source.model))
    model = model_class(ensemble=ensemble, cache=cache)
    model.invoke(PROMPT)
    for name in ("c", "d"):
        assert model._for_call(None, {"model": name}).ensemble.calls == []
        model.invoke(PROMPT, model=name)
        model.invoke(PROMPT, model=name)
        assert len(model._for_call(None, {"model": name}).ensemble.calls) == 1
