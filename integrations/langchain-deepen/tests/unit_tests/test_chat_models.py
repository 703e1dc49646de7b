"""`ChatDeepen` over a fake ensemble."""

import asyncio
import contextlib
import math

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from deepen_llm.errors import ConfigError, MemberError, PromptError
from deepen_llm.results import FusionReport
from langchain_deepen import ChatDeepen

MESSAGES = [SystemMessage("Be brief."), HumanMessage("Hello"), AIMessage("Hi."), HumanMessage("Where?")]
ANSWER = "The answer is 6."
USAGE = {"input_tokens": 6, "output_tokens": 5, "total_tokens": 11}


@pytest.fixture
def chat(ensemble):
    return ChatDeepen(ensemble=ensemble)


@pytest.fixture
def slow(make_ensemble):
    """An ensemble that takes 20 ms a token."""
    return make_ensemble(delay_s=0.02)


def test_invoke_sends_the_messages_in_their_order(chat, ensemble):
    answer = chat.invoke(MESSAGES)
    assert isinstance(answer, AIMessage)
    assert answer.content == ANSWER
    assert ensemble.calls[0][1] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "Where?"},
    ]


def test_a_string_is_a_message_of_the_user(chat, ensemble):
    assert chat.invoke("Where?").content == ANSWER
    assert ensemble.calls[0][1] == [{"role": "user", "content": "Where?"}]


def test_the_answer_has_usage_and_metadata(chat):
    answer = chat.invoke(MESSAGES)
    assert answer.usage_metadata == USAGE
    assert answer.response_metadata == {"model_name": "a+b", "model_provider": "deepen", "finish_reason": "stop"}
    assert chat.invoke(MESSAGES, max_tokens=2).response_metadata["finish_reason"] == "length"


def test_a_streams_pieces_join_to_the_same_message(chat, recorder):
    pieces = list(chat.stream(MESSAGES, config={"callbacks": [recorder]}))
    whole = sum(pieces[1:], start=pieces[0])
    assert isinstance(whole, AIMessageChunk)
    assert whole.content == ANSWER
    assert whole.usage_metadata == USAGE
    assert whole.response_metadata == {"model_name": "a+b", "model_provider": "deepen", "finish_reason": "stop"}
    assert all(piece.content for piece in pieces[:-1])
    assert [piece.usage_metadata for piece in pieces[:-1]] == [None] * 5
    assert pieces[-1].chunk_position == "last"
    assert recorder.tokens == [piece.content for piece in pieces]
    assert len(recorder.chunks) == 6


def test_streaming_sends_tokens_from_invoke_too(ensemble, recorder):
    chat = ChatDeepen(ensemble=ensemble, streaming=True)
    answer = chat.invoke(MESSAGES, config={"callbacks": [recorder]})
    assert "".join(recorder.tokens) == answer.content == ANSWER
    assert answer.usage_metadata == USAGE
    assert ensemble.calls[0][0] == "stream_chat"


@pytest.mark.parametrize(
    "call",
    [
        lambda chat, **options: chat.invoke(MESSAGES, **options),
        lambda chat, **options: chat.bind(**options).invoke(MESSAGES),
        lambda chat, **options: chat.batch([MESSAGES], **options)[0],
        lambda chat, **options: sum(chat.stream(MESSAGES, **options), start=AIMessageChunk(content="")),
    ],
    ids=["invoke", "bind", "batch", "stream"],
)
def test_options_and_stop_of_one_call_reach_the_engine(call, chat, ensemble):
    assert call(chat, max_new_tokens=2, temperature=0.5, seed=7).content == "The answer"
    assert (ensemble.params.temperature, ensemble.params.seed) == (0.5, 7)
    assert call(chat, stop=[" is"]).content == "The answer"
    with pytest.raises(ConfigError, match="ChatDeepen has no option 'toolz'"):
        call(chat, toolz=[])


def test_the_stream_option_is_langchains_own(chat, ensemble):
    assert chat.invoke(MESSAGES, stream=True).content == ANSWER
    assert ensemble.calls[0][0] == "stream_chat"


def test_a_batch_runs_side_by_side_and_in_order(chat):
    answers = chat.batch(["a", "bb", "ccc"])
    assert [answer.content for answer in answers] == ["The answer is 1.", "The answer is 2.", "The answer is 3."]
    first, second = chat.batch(["a", "too long"], return_exceptions=True)
    assert first.content == "The answer is 1."
    assert isinstance(second, PromptError)


def test_logprobs_are_the_same_whole_and_streamed(ensemble):
    chat = ChatDeepen(ensemble=ensemble, logprobs=1)
    whole = chat.invoke(MESSAGES).response_metadata
    streamed = sum(chat.stream(MESSAGES), start=AIMessageChunk(content="")).response_metadata
    assert streamed == whole
    assert [token["logprob"] for token in whole["logprobs"]["content"]] == [-0.5] * 5


def test_usage_callbacks_count_by_model(chat):
    usage = UsageMetadataCallbackHandler()
    chat.invoke(MESSAGES, config={"callbacks": [usage]})
    list(chat.stream(MESSAGES, config={"callbacks": [usage]}))
    assert usage.usage_metadata == {"a+b": {"input_tokens": 12, "output_tokens": 10, "total_tokens": 22}}


def test_a_chain_streams(chat):
    chain = (
        ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{where}?")]) | chat | StrOutputParser()
    )
    assert "".join(chain.stream({"where": "Where"})) == ANSWER


def test_content_blocks_of_version_1_are_text(ensemble):
    chat = ChatDeepen(ensemble=ensemble, output_version="v1")
    assert chat.invoke(MESSAGES).content == [{"type": "text", "text": ANSWER}]
    assert sum(chat.stream(MESSAGES), start=AIMessageChunk(content="")).text == ANSWER


def test_an_answer_can_be_sent_back(chat, ensemble):
    first = chat.invoke("Where?")
    chat.invoke([HumanMessage("Where?"), first, HumanMessage("And then?")])
    assert [message["role"] for message in ensemble.calls[1][1]] == ["user", "assistant", "user"]


def test_errors_in_a_stream_surface_at_once(make_ensemble, recorder):
    chat = ChatDeepen(ensemble=make_ensemble(fails_after=2))
    with pytest.raises(MemberError, match="failed at step 2"):
        list(chat.stream(MESSAGES, config={"callbacks": [recorder]}))
    assert len(recorder.errors) == 1


def test_an_abandoned_stream_stops_the_engine(chat, ensemble):
    pieces = chat.stream(MESSAGES)
    next(pieces)
    pieces.close()
    assert (ensemble.num_running, ensemble.num_cancelled) == (0, 1)


async def test_the_async_twins_answer_the_same(chat, ensemble):
    assert (await chat.ainvoke(MESSAGES)).content == ANSWER
    whole = AIMessageChunk(content="")
    async for piece in chat.astream(MESSAGES):
        whole += piece
    assert (whole.content, whole.usage_metadata) == (ANSWER, USAGE)
    assert [answer.content for answer in await chat.abatch(["a", "bb"])] == ["The answer is 1.", "The answer is 2."]
    assert [method for method, _, _ in ensemble.calls] == ["achat", "astream_chat", "achat", "achat"]


async def test_the_calls_of_an_abatch_run_side_by_side(slow):
    batch = asyncio.create_task(ChatDeepen(ensemble=slow).abatch(["a", "bb", "ccc"]))
    ticks = most_running = 0
    while not batch.done():
        await asyncio.sleep(0.002)
        ticks, most_running = ticks + 1, max(most_running, slow.num_running)
    assert most_running == 3
    assert ticks >= 5


async def test_cancelling_the_task_stops_the_engine(slow):
    slow.delay_s = 10.0
    task = asyncio.create_task(ChatDeepen(ensemble=slow).ainvoke(MESSAGES))
    while not slow.num_running:
        await asyncio.sleep(0)
    assert slow.num_running == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (slow.num_running, slow.num_cancelled) == (0, 1)


async def test_an_abandoned_async_stream_stops_the_engine(slow):
    async with contextlib.aclosing(ChatDeepen(ensemble=slow).astream(MESSAGES)) as pieces:
        async for _ in pieces:
            break
    await asyncio.sleep(0)
    assert (slow.num_running, slow.num_cancelled) == (0, 1)


async def test_astream_events_carry_tokens_and_usage(chat):
    events = [event async for event in chat.astream_events(MESSAGES)]
    assert "".join(e["data"]["chunk"].content for e in events if e["event"] == "on_chat_model_stream") == ANSWER
    assert events[-1]["data"]["output"].usage_metadata == USAGE


async def test_the_share_of_fused_steps_and_the_last_weights_are_told(ensemble):
    ensemble.fusion = FusionReport(4, 3, 0, 0, 0.0, weights=(0.25, 0.75))
    chat = ChatDeepen(ensemble=ensemble)
    streamed = [chunk async for chunk in chat.astream(MESSAGES)]
    messages = [
        chat.invoke(MESSAGES),
        await chat.ainvoke(MESSAGES),
        sum(chat.stream(MESSAGES), start=AIMessageChunk(content="")),
        sum(streamed, start=AIMessageChunk(content="")),
        ChatDeepen(ensemble=ensemble, streaming=True).invoke(MESSAGES),
    ]
    for message in messages:
        assert message.response_metadata["share_fused"] == 0.75
        assert message.response_metadata["weights"] == {"a": 0.25, "b": 0.75}
    assert [piece for piece in streamed if "weights" in piece.response_metadata] == [
        next(piece for piece in streamed if "finish_reason" in piece.response_metadata)
    ], "with the end of the answer, once"


def test_logprobs_have_the_shape_of_langchains_other_models(ensemble):
    first = ChatDeepen(ensemble=ensemble, logprobs=1).invoke(MESSAGES).response_metadata["logprobs"]["content"][0]
    top = {"token": "The", "token_id": 0, "logprob": pytest.approx(math.log(0.5))}
    assert first == {"token": "The", "token_id": 0, "logprob": -0.5, "top_logprobs": [top]}


async def test_tags_and_metadata_arrive_in_events_and_callbacks(chat, recorder):
    config = {"tags": ["a tag"], "metadata": {"who": "me"}, "run_name": "mine", "callbacks": [recorder]}
    events = [event async for event in chat.astream_events(MESSAGES, config=config)]
    assert {event["event"] for event in events} == {"on_chat_model_start", "on_chat_model_stream", "on_chat_model_end"}
    for event in events:
        assert (event["tags"], event["metadata"]["who"], event["name"]) == (["a tag"], "me", "mine")
    assert recorder.starts[0]["tags"] == ["a tag"]
    assert recorder.starts[0]["metadata"]["who"] == "me"


def test_the_nearest_variables_of_chat_templates_reach_the_ensemble(ensemble):
    chat = ChatDeepen(ensemble=ensemble, chat_template_kwargs={"enable_thinking": False})
    chat.invoke("Hi")
    assert ensemble.chat_options == {"chat_template_kwargs": {"enable_thinking": False}}
    list(chat.stream("Hi", chat_template_kwargs={"enable_thinking": True}))
    assert ensemble.chat_options == {"chat_template_kwargs": {"enable_thinking": True}}
    assert chat._identifying_params != ChatDeepen(ensemble=ensemble)._identifying_params
