"""DeepenLLM over the bundled models: the same answers as the ensemble's own, and work that ends when it should."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.prompts.default_prompts import DEFAULT_TEXT_QA_PROMPT
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import TextNode
from llama_index.core.tools import FunctionTool
from llama_index.retrievers.bm25 import BM25Retriever
from pydantic import BaseModel

from deepen_llm import Ensemble, FusionConfig, SamplingParams
from deepen_llm.errors import ClosedError, ConfigError, ContextLengthError
from llama_index.llms.deepen import ContextOverflowError, DeepenLLM

PROMPT = "Question: What is the capital of France?\nAnswer:"
MESSAGES = [ChatMessage(role="user", content="What is the capital of France?")]
PLAIN = [{"role": "user", "content": "What is the capital of France?"}]
LONG = {"max_tokens": 600, "ignore_eos": True}


@pytest.fixture
def llm(starter):
    return DeepenLLM(ensemble=starter, max_tokens=16)


def _wait_until_idle(ensemble):
    """The engine ends cancelled work between two steps; 20 s is no measure of speed."""
    deadline = time.monotonic() + 20
    while ensemble.num_running and time.monotonic() < deadline:
        time.sleep(0.005)
    return ensemble.num_running == 0


async def test_all_ways_to_complete_give_the_ensembles_own_answer(llm, starter):
    own = starter.generate(PROMPT, SamplingParams(max_new_tokens=16))
    usage = {
        "prompt_tokens": own.usage.prompt_tokens,
        "completion_tokens": own.usage.completion_tokens,
        "total_tokens": own.usage.total_tokens,
    }  # and how many of the prompt's tokens were read before, which differs
    raw = {
        "model_name": "+".join(starter.member_names),
        "usage": usage,
        "finish_reason": own.finish_reason,
        "share_fused": own.fusion.share_fused,
        "weights": dict(zip(starter.member_names, own.fusion.weights, strict=True)),
    }
    responses = [
        llm.complete(PROMPT, formatted=True),
        list(llm.stream_complete(PROMPT, formatted=True))[-1],
        await llm.acomplete(PROMPT, formatted=True),
        [response async for response in await llm.astream_complete(PROMPT, formatted=True)][-1],
    ]
    assert own.text
    assert {response.text for response in responses} == {own.text}
    for response in responses:
        assert response.raw["usage"].pop("cached_tokens") >= 0
        assert response.raw == raw


async def test_all_ways_to_chat_give_the_ensembles_own_answer(llm, starter):
    own = starter.chat(PLAIN, SamplingParams(max_new_tokens=16)).text
    responses = [
        llm.chat(MESSAGES),
        list(llm.stream_chat(MESSAGES))[-1],
        await llm.achat(MESSAGES),
        [response async for response in await llm.astream_chat(MESSAGES)][-1],
    ]
    assert {response.message.content for response in responses} == {own}
    assert llm.complete(PLAIN[0]["content"]).text == own


def test_the_pieces_of_a_stream_join_to_the_whole(llm):
    responses = list(llm.stream_complete(PROMPT, formatted=True, max_tokens=40, ignore_eos=True))
    assert len(responses) > 5
    assert "".join(response.delta for response in responses) == responses[-1].text


async def test_concurrent_calls_get_what_they_get_alone(llm):
    prompts = [PROMPT, PROMPT.replace("France", "Italy"), "Question: What is 12 plus 30?\nAnswer:"]
    alone = [llm.complete(prompt, formatted=True).text for prompt in prompts]
    together = await asyncio.gather(*(llm.acomplete(prompt, formatted=True) for prompt in prompts * 2))
    assert [response.text for response in together] == alone * 2


def test_the_same_seed_gives_the_same_text(llm):
    options = {"formatted": True, "temperature": 1.5, "seed": 3, "ignore_eos": True}
    assert llm.complete(PROMPT, **options).text == llm.complete(PROMPT, **options).text
    assert llm.complete(PROMPT, **options).text != llm.complete(PROMPT, **{**options, "seed": 4}).text


def test_an_abandoned_stream_frees_the_engine(llm, starter):
    stream = llm.stream_complete(PROMPT, formatted=True, **LONG)
    next(stream)
    assert starter.num_running == 1
    del stream
    assert _wait_until_idle(starter)


async def test_a_cancelled_task_frees_the_engine(llm, starter):
    task = asyncio.create_task(llm.achat(MESSAGES, **LONG))
    while not starter.num_running and not task.done():
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert _wait_until_idle(starter)


class Lamp(BaseModel):
    owner: str
    colour: str


@pytest.mark.parametrize(
    "method", ["acomplete", "achat", "astream_complete", "astream_chat", "astructured_predict", "achat_with_tools"]
)
async def test_the_event_loop_ticks_on_while_models_work(starter, method):
    """The longest pause between two ticks is a small part of the time that the calls take."""
    llm = DeepenLLM(ensemble=starter, max_tokens=80)
    arguments = {
        "astructured_predict": (Lamp, PromptTemplate("Whose is the lamp?")),
        "achat_with_tools": ([FunctionTool.from_defaults(_paint)], "Paint it."),
    }

    async def call():
        options = {} if method in arguments else {"ignore_eos": True}
        if method == "achat_with_tools":
            options = {"tool_required": True}
        result = await getattr(llm, method)(
            *arguments.get(method, (PROMPT if "complete" in method else MESSAGES,)), **options
        )
        if method.startswith("astream"):
            async for _ in result:
                pass

    async def tick():
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.002)

    await call()
    ticks: list[float] = []
    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    await asyncio.gather(*(call() for _ in range(4)))
    end = time.monotonic()
    ticker.cancel()
    pauses = [later - earlier for earlier, later in zip(ticks, [*ticks[1:], end], strict=True)]
    assert len(ticks) >= 10
    assert max(pauses) < 0.5 * (end - ticks[0])


def _paint(colour: str) -> str:
    """Paints."""
    return colour


def test_a_prompt_that_is_too_long_is_an_error_at_the_first_piece(llm, starter):
    stream = llm.stream_complete("word " * 2 * starter.context_length, formatted=True)
    with pytest.raises(ContextOverflowError) as caught:
        next(stream)
    assert isinstance(caught.value.__cause__, ContextLengthError)
    assert llm.complete(PROMPT, formatted=True).text


def test_a_query_engine_asks_the_ensemble_about_the_document_that_fits(starter):
    texts = ["Orin keeps a goat. The lamp of Orin is green.", "Tava works as a baker.", "Kell is known for its salt."]
    llm = DeepenLLM(ensemble=starter, is_chat_model=False, max_tokens=16, stop=["\n"])
    retriever = BM25Retriever(nodes=[TextNode(text=text) for text in texts], similarity_top_k=1)
    question = "Which animal does Orin keep?"
    prompt = DEFAULT_TEXT_QA_PROMPT.format(context_str=texts[0], query_str=question)
    own = starter.generate(prompt, SamplingParams(max_new_tokens=16, stop=["\n"])).text
    assert str(RetrieverQueryEngine.from_args(retriever, llm=llm).query(question)) == own
    streamed = RetrieverQueryEngine.from_args(retriever, llm=llm, streaming=True).query(question)
    assert "".join(streamed.response_gen) == own


def test_an_answer_that_was_closed_before_its_tokens_ran_out_says_so(starter):
    llm = DeepenLLM(ensemble=starter, max_tokens=24, temperature=9.0, seed=0)
    answer = llm.complete("Hello!", json_schema={"type": "string"})
    assert isinstance(json.loads(answer.text), str) and answer.raw["is_shortened"] is True
    assert "is_shortened" not in llm.complete("Hello!").raw


def test_an_llm_that_loaded_its_ensemble_can_be_written_down_and_closed():
    llm = DeepenLLM(model="starter", main=1, max_tokens=8, stop="\n", top_p=0.9)
    again = DeepenLLM.from_dict(llm.to_dict())
    assert (again.model, again.max_tokens, again.stop, again.top_p) == ("starter", 8, "\n", 0.9)
    assert again.ensemble.identity == llm.ensemble.identity
    assert again.complete(PROMPT, formatted=True).text == llm.complete(PROMPT, formatted=True).text
    llm.close()
    again.close()
    assert llm.ensemble.is_closed and again.ensemble.is_closed
    with pytest.raises(ClosedError):
        llm.complete(PROMPT)


def test_members_that_are_drawn_answer_at_temperature_one_and_refuse_the_rest_by_name():
    with Ensemble.starter(["llama", "neox"], fusion=FusionConfig(method="text", fuse="drawn")) as ensemble:
        llm = DeepenLLM(ensemble=ensemble, max_tokens=4)
        assert llm.complete(PROMPT, temperature=1.0).text
        with pytest.raises(ConfigError, match=r"fuse='drawn' .* at temperature 1; got temperature=0"):
            llm.complete(PROMPT)
        with pytest.raises(ConfigError, match="fuse='drawn' asks one member for each word, and top_p would change"):
            llm.complete(PROMPT, temperature=1.0, top_p=0.5)
