"""An LLM whose answers are objects: complete, chat, streams, async, and inside a query engine."""

from __future__ import annotations

import json

import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.llms import ChatMessage
from llama_index.core.llms.structured_llm import StructuredLLM
from pydantic import BaseModel, Field

from llama_index.llms.deepen import DeepenLLM

LAMP = '{"owner": "Orin", "number": 3}'
ARGUMENTS = {"complete": 'Lamp of {"x": {y}}?', "chat": [ChatMessage(role="user", content='Lamp of {"x": {y}}?')]}
WAYS = tuple(f"{way}{kind}" for kind in ARGUMENTS for way in ("", "a", "stream_", "astream_"))


class Lamp(BaseModel):
    owner: str
    number: int


async def _call(llm, method, **options):
    kind = "chat" if method.endswith("chat") else "complete"
    result = getattr(llm, method)(ARGUMENTS[kind], **options)
    if method.startswith("a"):
        result = await result
    if "stream" not in method:
        return [result]
    return [response async for response in result] if method.startswith("a") else list(result)


def _text(response):
    return response.text if hasattr(response, "text") else response.message.content


@pytest.mark.parametrize("is_chat_model", [True, False])
@pytest.mark.parametrize("method", WAYS)
async def test_every_way_gives_the_object_and_its_json(ensemble, method, is_chat_model):
    llm = DeepenLLM(ensemble=ensemble, is_chat_model=is_chat_model).as_structured_llm(Lamp)
    assert isinstance(llm, StructuredLLM) and llm.metadata.is_chat_model == is_chat_model
    ensemble.answers = [LAMP]
    *partials, last = await _call(llm, method, max_tokens=30)
    assert last.raw == Lamp(owner="Orin", number=3)
    assert json.loads(_text(last)) == json.loads(LAMP)
    assert bool(partials) == ("stream" in method) and all(partial.raw.number is None for partial in partials[:2])
    ((_, content, params),) = ensemble.calls
    assert 'Lamp of {"x": {y}}?' in str(content) and "Answer with JSON only" in str(content)
    assert (params.max_new_tokens, params.json_schema) == (30, Lamp.model_json_schema())


@pytest.mark.parametrize("method", WAYS)
async def test_text_is_by_alias_and_the_object_by_the_names_of_its_fields(llm, ensemble, method):
    class Aliased(BaseModel):
        nm: str = Field(alias="name")

    ensemble.answers = ['{"name": "Orin"}']
    responses = await _call(llm.as_structured_llm(Aliased), method)
    assert ("stream" in method) == ("Or" in [response.raw.nm for response in responses])
    assert responses[-1].raw == Aliased(name="Orin")
    assert all(json.loads(_text(response)) == {"name": response.raw.nm} for response in responses)


@pytest.mark.parametrize("method", WAYS)
async def test_a_call_is_one_pair_of_events_of_the_llm_within(ensemble, method):
    debug = LlamaDebugHandler(print_trace_on_end=False)
    llm = DeepenLLM(ensemble=ensemble, callback_manager=CallbackManager([debug])).as_structured_llm(Lamp)
    ensemble.answers = [LAMP]
    await _call(llm, method)
    assert [len(pair) for pair in debug.get_event_pairs(CBEventType.LLM)] == [2]


@pytest.mark.parametrize("method", ["stream_chat", "stream_complete"])
def test_an_abandoned_stream_stops_the_work(llm, ensemble, method):
    ensemble.answers = [LAMP]
    stream = getattr(llm.as_structured_llm(Lamp), method)(ARGUMENTS[method.removeprefix("stream_")])
    next(stream)
    stream.close()
    assert (ensemble.num_running, ensemble.num_cancelled) == (0, 1)


@pytest.mark.parametrize("is_chat_model", [True, False])
@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize", "simple_summarize"])
async def test_a_query_engine_over_it_answers_with_the_object(starter, mode, is_chat_model):
    llm = DeepenLLM(ensemble=starter, is_chat_model=is_chat_model, max_tokens=60).as_structured_llm(Lamp)
    documents = [Document(text="The lamp of Orin is number 3.")]
    index = VectorStoreIndex.from_documents(documents, embed_model=MockEmbedding(8))
    engine = index.as_query_engine(llm=llm, response_mode=mode)
    for response in (engine.query("Whose lamp?"), await engine.aquery("Whose lamp?")):
        assert isinstance(response.response, Lamp)


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize"])
def test_a_query_engine_with_an_output_class_answers_with_the_object(starter, mode):
    llm = DeepenLLM(ensemble=starter, max_tokens=60)
    index = VectorStoreIndex.from_documents([Document(text="The lamp of Orin.")], embed_model=MockEmbedding(8))
    engine = index.as_query_engine(llm=llm, response_mode=mode, output_cls=Lamp)
    assert isinstance(engine.query("Whose lamp?").response, Lamp)
