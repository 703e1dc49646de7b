"""DeepenLLM inside LlamaIndex: indices, query engines and chat engines, streaming and not."""

from __future__ import annotations

import asyncio
import json

import pytest
from llama_index.core import Document, Settings, SummaryIndex, VectorStoreIndex, get_response_synthesizer
from llama_index.core.base.response.schema import StreamingResponse
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import TextNode
from llama_index.retrievers.bm25 import BM25Retriever

from deepen_llm.errors import MemberError
from llama_index.llms.deepen import DeepenLLM

TEXTS = ["The lamp of Orin is green.", "The boat of Orin was built by Tava.", "The tower of Kell has nine rooms."]
CHAT_MODES = ("simple", "context", "condense_question", "condense_plus_context")
MODES = ("refine", "compact", "tree_summarize", "simple_summarize", "accumulate", "compact_accumulate")


@pytest.fixture
def index():
    return VectorStoreIndex.from_documents([Document(text=text) for text in TEXTS], embed_model=MockEmbedding(8))


@pytest.fixture(params=[True, False], ids=["chat model", "completion model"])
def any_llm(request, ensemble):
    ensemble.context_length = 4096
    return DeepenLLM(ensemble=ensemble, is_chat_model=request.param, max_tokens=32)


@pytest.mark.parametrize("mode", MODES)
def test_a_query_engine_answers_in_every_response_mode(index, any_llm, mode):
    response = index.as_query_engine(llm=any_llm, response_mode=mode, similarity_top_k=3).query("Which colour?")
    assert "Paris is it." in str(response)
    assert any("lamp of Orin" in str(content) for _, content, _ in any_llm.ensemble.calls)
    assert {method for method, _, _ in any_llm.ensemble.calls} <= {"generate", "chat"}


@pytest.mark.parametrize("mode", ["refine", "compact", "tree_summarize", "simple_summarize"])
def test_a_query_engine_streams_in_every_mode_that_can(index, any_llm, mode):
    response = index.as_query_engine(llm=any_llm, response_mode=mode, streaming=True).query("Which colour?")
    assert isinstance(response, StreamingResponse)
    assert "".join(response.response_gen) == "Paris is it."
    assert any_llm.ensemble.num_running == 0


@pytest.mark.parametrize("is_streaming", [True, False])
async def test_the_modes_that_need_no_passages_answer_too(index, any_llm, is_streaming, monkeypatch):
    monkeypatch.setattr(Settings, "_llm", any_llm)  # LlamaIndex makes two of these modes without the engine's own LLM
    engines = {
        mode: index.as_query_engine(llm=any_llm, response_mode=mode, streaming=is_streaming, similarity_top_k=3)
        for mode in ("generation", "no_text", "context_only")
    }
    generated = engines["generation"].query("Which colour?")
    assert ("".join(generated.response_gen) if is_streaming else str(generated)) == "Paris is it."
    assert "lamp of Orin" not in str(any_llm.ensemble.calls)
    generated = await engines["generation"].aquery("Which colour?")
    text = "".join([piece async for piece in generated.response_gen]) if is_streaming else str(generated)
    assert text == "Paris is it."
    assert len(engines["no_text"].query("Which colour?").source_nodes) == 3
    assert "lamp of Orin" in str(engines["context_only"].query("Which colour?"))
    assert len(any_llm.ensemble.calls) == 2


@pytest.mark.parametrize("is_streaming", [True, False])
@pytest.mark.parametrize("mode", ["refine", "compact"])
def test_a_query_engine_can_leave_out_answers_that_do_not_satisfy(index, any_llm, mode, is_streaming):
    answer = {"query_satisfied": True, "answer": "It is green."}
    any_llm.ensemble.answers = [json.dumps({"name": "StructuredRefineResponse", "arguments": answer})] * 3
    synthesizer = get_response_synthesizer(
        any_llm, response_mode=mode, structured_answer_filtering=True, streaming=is_streaming
    )
    response = index.as_query_engine(llm=any_llm, response_synthesizer=synthesizer).query("Which colour?")
    assert ("".join(response.response_gen) if is_streaming else str(response)) == "It is green."
    assert all(params.grammar.startswith("start: calls\n") for _, _, params in any_llm.ensemble.calls)


@pytest.mark.parametrize("mode", MODES)
async def test_a_query_engine_answers_in_an_event_loop(index, any_llm, mode):
    response = await index.as_query_engine(llm=any_llm, response_mode=mode).aquery("Which colour is the lamp?")
    assert "Paris is it." in str(response)
    assert {method for method, _, _ in any_llm.ensemble.calls} <= {"agenerate", "achat"}


async def test_a_query_engine_streams_in_an_event_loop(index, any_llm):
    response = await index.as_query_engine(llm=any_llm, streaming=True).aquery("Which colour is the lamp?")
    assert "".join([piece async for piece in response.response_gen]) == "Paris is it."


def test_letting_go_of_a_streaming_answer_stops_the_work(index, any_llm):
    response = index.as_query_engine(llm=any_llm, streaming=True).query("Which colour is the lamp?")
    assert next(iter(response.response_gen)) == "Paris"
    assert any_llm.ensemble.num_running == 1
    del response
    assert (any_llm.ensemble.num_running, any_llm.ensemble.num_cancelled) == (0, 1)


def test_a_failing_member_surfaces_through_a_query_engine(index, any_llm):
    any_llm.ensemble.error = MemberError("beta failed at step 2")
    with pytest.raises(MemberError, match="beta failed at step 2"):
        index.as_query_engine(llm=any_llm).query("Which colour is the lamp?")
    response = index.as_query_engine(llm=any_llm, streaming=True).query("Which colour is the lamp?")
    with pytest.raises(MemberError, match="beta failed at step 2"):
        "".join(response.response_gen)


def test_retrieval_by_bm25_needs_no_embedding_model(any_llm):
    retriever = BM25Retriever(nodes=[TextNode(text=text) for text in TEXTS], similarity_top_k=1)
    response = RetrieverQueryEngine.from_args(retriever, llm=any_llm).query("Who built the boat?")
    assert [node.text for node in response.source_nodes] == [TEXTS[1]]
    assert TEXTS[1] in str(any_llm.ensemble.calls[0][1])


def _chat_engine(index, llm, mode):
    """A chat engine whose memory opens no database, which LlamaIndex's default does and leaves open."""
    memory = ChatMemoryBuffer.from_defaults(token_limit=1000, tokenizer_fn=llm.tokenizer)
    return index.as_chat_engine(chat_mode=mode, llm=llm, memory=memory)


@pytest.mark.parametrize("mode", CHAT_MODES)
def test_a_chat_engine_remembers_and_answers(index, any_llm, mode):
    engine = _chat_engine(index, any_llm, mode)
    assert engine.chat("Which colour is the lamp?").response == "Paris is it."
    assert engine.chat("And the tower?").response == "Paris is it."
    roles = [message.role.value for message in engine.chat_history]
    assert roles == ["user", "assistant", "user", "assistant"]


@pytest.mark.parametrize("mode", CHAT_MODES)
def test_a_chat_engine_streams(index, any_llm, mode):
    response = _chat_engine(index, any_llm, mode).stream_chat("Which colour is the lamp?")
    assert "".join(response.response_gen) == "Paris is it."


@pytest.mark.parametrize("mode", CHAT_MODES)
async def test_a_chat_engine_answers_and_streams_in_an_event_loop(index, any_llm, mode):
    engine = _chat_engine(index, any_llm, mode)
    assert (await engine.achat("Which colour is the lamp?")).response == "Paris is it."
    response = await engine.astream_chat("And the tower?")
    assert "".join([piece async for piece in response.async_response_gen()]) == "Paris is it."
    assert {method for method, _, _ in any_llm.ensemble.calls} <= {"agenerate", "achat", "astream", "astream_chat"}


def test_many_prompts_of_a_summary_run_side_by_side(any_llm):
    any_llm.ensemble.delay_s = 0.05
    most_at_once = 0

    async def watch(task):
        nonlocal most_at_once
        while not task.done():
            most_at_once = max(most_at_once, any_llm.ensemble.num_running)
            await asyncio.sleep(0.001)

    async def run():
        index = SummaryIndex.from_documents([Document(text=text) for text in TEXTS])
        engine = index.as_query_engine(llm=any_llm, response_mode="accumulate", use_async=True)
        task = asyncio.create_task(engine.aquery("What is said?"))
        await watch(task)
        return task.result()

    assert str(asyncio.run(run())).count("Paris is it.") == len(TEXTS)
    assert most_at_once == len(TEXTS)


def test_llama_index_can_count_with_the_main_models_tokenizer(any_llm, monkeypatch):
    monkeypatch.setattr(Settings, "tokenizer", any_llm.tokenizer)
    any_llm.ensemble.context_length = 1500
    index = SummaryIndex.from_documents([Document(text=text * 20) for text in TEXTS])
    index.as_query_engine(llm=any_llm, response_mode="compact").query("What is said?")
    sizes = [len(str(content)) for _, content, _ in any_llm.ensemble.calls]
    assert len(sizes) > 1, "prompts were packed as if characters were cheaper than they are"
