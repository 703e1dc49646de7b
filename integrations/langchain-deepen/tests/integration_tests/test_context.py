"""What fits by LangChain's count fits every member, and what does not is LangChain's error too."""

import random

import pytest
from langchain_core import exceptions
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, trim_messages
from langchain_core.tools import tool

from deepen_llm import Ensemble
from deepen_llm.errors import ContextLengthError
from deepen_llm.requests.messages import encode_chat
from langchain_deepen import ChatDeepen, DeepenLLM
from langchain_deepen.messages import read_messages

WORDS = ["Golzo", "is a potter", "été", "中文", "x = 1;", "\n\n", "the capital of", "😀", "Wexcote", "1,234.50"]


@pytest.fixture(scope="module", params=["llama", "neox", "qwen2"])
def of_main(request):
    """The starter models, each of them the main model once."""
    with Ensemble.starter(main=request.param) as opened:
        yield opened


def make_history(rng, length):
    """A conversation that the user ends."""
    said = [" ".join(rng.choices(WORDS, k=rng.randrange(1, 9))) for _ in range(2 * length + 1)]
    turns = [AIMessage(text) if place % 2 else HumanMessage(text) for place, text in enumerate(said)]
    return [SystemMessage("Be brief."), *turns] if rng.random() < 0.5 else turns


@pytest.mark.parametrize("strategy", ["last", "first"])
def test_what_is_trimmed_by_the_models_own_count_fits_every_member(of_main, strategy):
    chat, rng = ChatDeepen(ensemble=of_main, max_tokens=32), random.Random(0)
    window = of_main.context_length
    for _ in range(8):
        history = make_history(rng, rng.randrange(40, 90))
        room = rng.choice((window - 32, window - 1, window // 3))
        options = {"include_system": True, "start_on": "human"} if strategy == "last" else {"end_on": "human"}
        kept = trim_messages(history, max_tokens=room, token_counter=chat, strategy=strategy, **options)
        assert 1 < len(kept) < len(history)
        told = read_messages(kept)
        assert max(len(encode_chat(member.vocabulary, told).ids) for member in of_main.members) <= room


def test_many_short_messages_are_trimmed_and_answered(ensemble):
    chat = ChatDeepen(ensemble=ensemble, max_tokens=4)
    history = [HumanMessage("Hi") if turn % 2 == 0 else AIMessage("Hello!") for turn in range(243)]
    with pytest.raises(exceptions.ContextOverflowError):
        chat.invoke(history)
    kept = trim_messages(history, max_tokens=ensemble.context_length - 4, token_counter=chat, start_on="human")
    assert chat.invoke(kept).usage_metadata["output_tokens"] > 0


def test_tools_count_with_what_the_models_are_told_of_them(ensemble):
    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    chat, asked = ChatDeepen(ensemble=ensemble), [HumanMessage("1 + 2?")]
    assert chat.get_num_tokens_from_messages(asked, tools=[add]) > chat.get_num_tokens_from_messages(asked) + 20
    assert chat.get_num_tokens_from_messages("1 + 2?") == chat.get_num_tokens_from_messages(asked)
    assert chat.get_num_tokens_from_messages([]) == 0


@pytest.mark.parametrize("model_class", [DeepenLLM, ChatDeepen])
async def test_an_overflow_is_an_error_of_both(ensemble, model_class):
    model, long = model_class(ensemble=ensemble, max_tokens=2), "word " * 2 * ensemble.context_length

    async def astream():
        return [piece async for piece in model.astream(long)]

    for kind in (exceptions.ContextOverflowError, ContextLengthError):
        with pytest.raises(kind):
            model.invoke(long)
        with pytest.raises(kind):
            list(model.stream(long))
        with pytest.raises(kind):
            await model.ainvoke(long)
        with pytest.raises(kind):
            await astream()
