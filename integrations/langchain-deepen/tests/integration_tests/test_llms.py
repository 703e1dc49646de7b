"""`DeepenLLM` on the starter models. What is checked is behaviour; what the models know is measured elsewhere."""

import asyncio
import socket
import time

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate

from deepen_llm import Ensemble, FusionConfig
from deepen_llm.errors import ClosedError, ConfigError, ContextLengthError
from langchain_deepen import DeepenLLM

PROMPTS = [
    "Question: What is the capital of France?\nAnswer:",
    "Context:\nGolzo works as a potter. Golzo plays the cello.\n\nQuestion: What does Golzo play?\nAnswer:",
    "Hello!",
]


@pytest.fixture
def llm(ensemble):
    """Always 24 tokens, so that even a model that would end at once has something to stream."""
    return DeepenLLM(ensemble=ensemble, max_tokens=24, ignore_eos=True)


class Tokens(BaseCallbackHandler):
    """Writes down the tokens."""

    def __init__(self):
        self.pieces, self.chunks = [], []

    def on_llm_new_token(self, token, *, chunk=None, **kwargs):
        self.pieces.append(token)
        self.chunks.append(chunk)


def wait_until_idle(ensemble, timeout_s=5.0):
    """The engine's count of requests, once it is zero or the time is over."""
    end = time.monotonic() + timeout_s
    while ensemble.num_running and time.monotonic() < end:
        time.sleep(0.01)
    return ensemble.num_running


def test_the_prompt_is_not_echoed(llm):
    answer = llm.invoke(PROMPTS[0])
    assert answer
    assert "Question: What is the capital of France?" not in answer


def test_batch_and_invoke_agree(llm):
    assert llm.batch(PROMPTS) == [llm.invoke(prompt) for prompt in PROMPTS]
    assert llm.batch(PROMPTS, return_exceptions=True) == llm.batch(PROMPTS)


def test_streamed_pieces_join_to_the_answer(llm):
    pieces = list(llm.stream(PROMPTS[1]))
    assert "".join(pieces) == llm.invoke(PROMPTS[1])
    assert all(pieces[:-1])
    assert len(pieces) > 5


async def test_the_async_twins_agree(llm):
    assert await llm.ainvoke(PROMPTS[1]) == llm.invoke(PROMPTS[1])
    assert await llm.abatch(PROMPTS) == llm.batch(PROMPTS)
    assert "".join([piece async for piece in llm.astream(PROMPTS[1])]) == llm.invoke(PROMPTS[1])


async def test_many_tasks_at_once_get_what_each_gets_alone(llm):
    answers = await asyncio.gather(*[llm.ainvoke(PROMPTS[n % 3]) for n in range(9)])
    assert answers == [llm.invoke(PROMPTS[n % 3]) for n in range(9)]


async def test_the_loop_stays_live_while_the_engine_works(llm):
    task = asyncio.create_task(llm.ainvoke(PROMPTS[0]))
    ticks = 0
    while not task.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert ticks >= 10


def test_stop_strings_that_span_tokens_cut_the_answer(llm):
    whole = llm.invoke(PROMPTS[0])
    middle = len(whole) // 2
    stop = whole[middle - 3 : middle + 4]
    expected = whole[: whole.index(stop)]
    assert llm.invoke(PROMPTS[0], stop=[stop]) == expected
    assert llm.bind(stop=[stop]).invoke(PROMPTS[0]) == expected
    assert "".join(llm.stream(PROMPTS[0], stop=[stop])) == expected
    assert llm.model_copy(update={"stop": [stop]}).invoke(PROMPTS[0]) == expected


def test_options_of_one_call_count(llm):
    short = llm.generate([PROMPTS[0]], max_tokens=3).generations[0][0]
    assert llm.invoke(PROMPTS[0]).startswith(short.text)
    assert short.generation_info["token_usage"]["completion_tokens"] == 3
    assert short.generation_info["finish_reason"] == "length"


def test_a_seed_repeats_alone_and_in_a_batch(llm):
    options = {"temperature": 1.5, "seed": 11}
    once = llm.invoke(PROMPTS[2], **options)
    assert llm.invoke(PROMPTS[2], **options) == once
    assert llm.batch(PROMPTS, **options)[2] == once
    assert llm.invoke(PROMPTS[2], temperature=1.5, seed=12) != once


def test_usage_counts_the_main_models_tokens(llm):
    result = llm.generate(PROMPTS)
    usages = [generation[0].generation_info["token_usage"] for generation in result.generations]
    assert [usage["completion_tokens"] for usage in usages] == [24] * 3
    assert result.llm_output["token_usage"]["total_tokens"] == sum(usage["total_tokens"] for usage in usages)


def test_callbacks_receive_every_token_with_its_chunk(llm):
    tokens = Tokens()
    streaming = llm.model_copy(update={"streaming": True})
    answer = streaming.invoke(PROMPTS[0], config={"callbacks": [tokens]})
    assert "".join(tokens.pieces) == answer
    assert [chunk.text for chunk in tokens.chunks] == tokens.pieces


def test_a_chain_answers_token_by_token(llm):
    chain = PromptTemplate.from_template("Question: {question}\nAnswer:") | llm | StrOutputParser()
    pieces = list(chain.stream({"question": "What is the capital of France?"}))
    assert "".join(pieces) == llm.invoke(PROMPTS[0])
    assert len(pieces) > 5


def test_an_abandoned_stream_stops_the_engine(llm, ensemble):
    pieces = llm.stream(PROMPTS[0], max_tokens=300)
    next(pieces)
    assert ensemble.num_running == 1
    del pieces
    assert wait_until_idle(ensemble) == 0


async def test_cancelling_a_task_stops_the_engine(llm, ensemble):
    task = asyncio.create_task(llm.ainvoke(PROMPTS[0], max_tokens=300))
    await asyncio.sleep(0.05)
    assert ensemble.num_running == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert wait_until_idle(ensemble) == 0


def test_tokens_are_counted_without_the_network(llm, ensemble, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("token counting must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    text = "Golzo works as a potter."
    assert llm.get_token_ids(text) == ensemble.encode(text)
    counts = [len(member.vocabulary.encode_prompt(text).ids) for member in ensemble.members]
    assert llm.get_num_tokens(text) == max(counts) > 3


def test_a_prompt_that_is_too_long_fails_alone_and_nothing_is_lost(llm, ensemble):
    long = "word " * 2 * ensemble.context_length
    answer, error = llm.batch([PROMPTS[0], long], return_exceptions=True)
    assert isinstance(error, ContextLengthError)
    assert answer == llm.invoke(PROMPTS[0])
    with pytest.raises(ContextLengthError):
        list(llm.stream(long))
    assert wait_until_idle(ensemble) == 0


@pytest.mark.parametrize("source", ["starter", "list", "file"])
def test_models_are_loaded_from_every_source(source, ensemble, tmp_path):
    folders = [member.model for member in ensemble.config.members]
    file = tmp_path / "ensemble.yaml"
    file.write_text(f"members: {folders}\n", encoding="utf-8")
    llm = DeepenLLM(model={"starter": "starter", "list": folders, "file": str(file)}[source], max_tokens=8)
    assert llm.invoke(PROMPTS[0]) == DeepenLLM(ensemble=ensemble, max_tokens=8).invoke(PROMPTS[0])
    assert llm._identifying_params["ensemble"] == ensemble.identity
    llm.ensemble.close()


def test_a_closed_ensemble_says_so():
    ensemble = Ensemble.starter()
    llm = DeepenLLM(ensemble=ensemble)
    ensemble.close()
    with pytest.raises(ClosedError):
        llm.invoke(PROMPTS[0])
    with pytest.raises(ClosedError):
        list(llm.stream(PROMPTS[0]))


def test_members_that_are_drawn_answer_at_temperature_one_and_refuse_the_rest_by_name():
    with Ensemble.starter(["llama", "neox"], fusion=FusionConfig(method="text", fuse="drawn")) as ensemble:
        llm = DeepenLLM(ensemble=ensemble, max_tokens=4)
        assert llm.invoke(PROMPTS[0], temperature=1.0)
        with pytest.raises(ConfigError, match=r"fuse='drawn' .* at temperature 1; got temperature=0"):
            llm.invoke(PROMPTS[0])
        with pytest.raises(ConfigError, match="fuse='drawn' asks one member for each word, and top_p would change"):
            llm.invoke(PROMPTS[0], temperature=1.0, top_p=0.5)
