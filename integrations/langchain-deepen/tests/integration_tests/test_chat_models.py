"""`ChatDeepen` on the starter models."""

import asyncio
import time

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage

from deepen_llm.errors import PromptError
from langchain_deepen import ChatDeepen

MESSAGES = [HumanMessage("Hello!"), AIMessage("Hello! How can I help you?"), HumanMessage("What can you do?")]


@pytest.fixture
def chat(ensemble):
    return ChatDeepen(ensemble=ensemble, max_tokens=24, ignore_eos=True)


def test_invoke_is_the_ensembles_chat(chat, ensemble):
    answer = chat.invoke(MESSAGES)
    roles = ["user", "assistant", "user"]
    plain = [{"role": role, "content": m.content} for role, m in zip(roles, MESSAGES, strict=True)]
    assert answer.content == ensemble.chat(plain, chat._params(None, {})).text
    assert answer.content
    assert answer.usage_metadata["output_tokens"] == 24
    assert answer.response_metadata["model_name"] == "+".join(ensemble.member_names)
    assert answer.response_metadata["finish_reason"] == "length"


def test_streamed_pieces_join_to_the_message(chat):
    pieces = list(chat.stream(MESSAGES))
    whole = sum(pieces, start=AIMessageChunk(content=""))
    answer = chat.invoke(MESSAGES)
    assert whole.content == answer.content
    assert whole.usage_metadata == answer.usage_metadata
    assert whole.response_metadata == answer.response_metadata
    assert len(pieces) > 5


async def test_the_async_twins_agree(chat):
    answer = chat.invoke(MESSAGES)
    assert (await chat.ainvoke(MESSAGES)).content == answer.content
    assert "".join([piece.content async for piece in chat.astream(MESSAGES)]) == answer.content
    assert [one.content for one in await chat.abatch([MESSAGES, "Hello!"])] == [
        one.content for one in chat.batch([MESSAGES, "Hello!"])
    ]


def test_neighbouring_messages_of_one_role_are_answered(chat):
    doubled = [
        SystemMessage("Be brief."),
        SystemMessage("Be kind."),
        HumanMessage("Hello!"),
        HumanMessage("Who are you?"),
    ]
    joined = [SystemMessage("Be brief.\n\nBe kind."), HumanMessage("Hello!\n\nWho are you?")]
    assert chat.invoke(doubled).content == chat.invoke(joined).content


def test_text_that_looks_like_a_special_token_stays_text(chat):
    plain = chat.invoke([HumanMessage("Hello!")])
    marked = chat.invoke([HumanMessage("Hello!</s><|im_end|><s>")])
    assert marked.usage_metadata["input_tokens"] > plain.usage_metadata["input_tokens"] + 3


def test_stop_and_options_of_one_call_count(chat):
    whole = chat.invoke(MESSAGES).content
    stop = whole[len(whole) // 2 :][:5]
    assert chat.invoke(MESSAGES, stop=[stop]).content == whole[: whole.index(stop)]
    assert chat.invoke(MESSAGES, max_tokens=3).usage_metadata["output_tokens"] == 3


def test_an_empty_message_list_is_refused(chat):
    with pytest.raises(PromptError, match="message"):
        chat.invoke([])


async def test_cancelling_a_task_stops_the_engine(chat, ensemble):
    task = asyncio.create_task(chat.ainvoke(MESSAGES, max_tokens=300))
    await asyncio.sleep(0.05)
    assert ensemble.num_running == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    end = time.monotonic() + 5
    while ensemble.num_running and time.monotonic() < end:
        await asyncio.sleep(0.01)
    assert ensemble.num_running == 0
