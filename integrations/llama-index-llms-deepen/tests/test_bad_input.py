"""Anything for any argument: an answer, or an error that names the argument; and the next good request is right."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import math
import random
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import AudioBlock, ImageBlock, TextBlock, ToolCallBlock
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate
from llama_index.core.tools import FunctionTool
from pydantic import BaseModel, ValidationError

from deepen_llm import Ensemble
from deepen_llm.errors import DeepenError
from llama_index.llms.deepen import DeepenLLM


class Person(BaseModel):
    """A schema, where one is not expected."""

    name: str


def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


ATOMS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**70, 0.5, -0.0, 1e300, math.nan, math.inf, Decimal("0.1"), 3j),
    *("", "x", "\n", "a b", "\ud800", "<s></s>", "auto", "starter", "add", "é" * 30, b"", b"x", bytearray(b"x")),
    *(object(), int, Person, Person(name="x"), len, Path("x"), ValueError("x"), range(3), {1, 2}, ...),
    *(FunctionTool.from_defaults(add), PromptTemplate("{x}"), ChatMessage("Hi")),
)
MESSAGES: tuple[Any, ...] = (
    *(
        ChatMessage("Hi"),
        ChatMessage(""),
        ChatMessage("\ud800"),
        ChatMessage(),
        ChatMessage(role="system", content="Hi"),
    ),
    *(ChatMessage(role="developer", content="Hi"), ChatMessage(role="assistant", content="Hello")),
    *(ChatMessage(role="tool", content="3"), ChatMessage(role="model", content="3")),
    *(ChatMessage(blocks=[TextBlock(text="Hi")]), ChatMessage(blocks=[ImageBlock(url="file:///x")])),
    *(
        ChatMessage(blocks=[AudioBlock(url="file:///x")]),
        ChatMessage(blocks=[ToolCallBlock(tool_name="f", tool_kwargs={})]),
    ),
    *({"role": "user", "content": "Hi"}, {"role": "user", "content": None}, {"role": "user"}, {"content": "Hi"}, {}),
    *(
        {"role": "king", "content": "Hi"},
        {"role": "user", "content": 5},
        {"role": "user", "content": [{"type": "text"}]},
    ),
    *({"role": "user", "content": "Hi", "name": "x"}, {"role": 5, "content": "Hi"}, "Hi", None, ("user", "Hi")),
)
OPTIONS = (
    *("temperature", "max_tokens", "max_new_tokens", "top_p", "top_k", "min_p", "stop", "seed", "logprobs"),
    *("ignore_eos", "trace", "timeout"),
)
CALL_OPTIONS = (*OPTIONS, "json_schema", "regex", "grammar")
CHAT_OPTIONS = (*CALL_OPTIONS, "tools", "tool_choice", "tool_required", "allow_parallel_tool_calls")
SETTINGS = (
    *(*OPTIONS, "model", "weights", "main", "fusion", "max_batch_size", "member_options", "ensemble", "is_chat_model"),
    *("system_prompt", "callback_manager", "pydantic_program_mode"),
)
WORDS = {
    **{"max_new_tokens": "max_tokens", "json_schema": "JSON schema", "regex": "regular expression"},
    **{"fusion": "FusionConfig", "weights": "WeightingConfig", "model": "EnsembleConfig|loaded from"},
    **{"messages": "message", "prompt": "prompt|message", "output_cls": "JSON schema", "llm_kwargs": "option"},
}
"""What else errors call an argument."""


def make_value(rng: random.Random, depth: int = 0) -> Any:
    """Any value of any type, nested or not."""
    kind = rng.randrange(9)
    if kind < 5 or depth > 2:
        return rng.choice(ATOMS)
    if kind == 5:
        return rng.choice(MESSAGES)
    values = [make_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 6:
        return values
    if kind == 7:
        return tuple(values)
    names = ("type", "title", "properties", "name", "description", "parameters", "x", 5)
    return {rng.choice(names): value for value in values}


def make_messages(rng: random.Random) -> Any:
    """What a chat may be given, and more."""
    return [rng.choice(MESSAGES) for _ in range(rng.randrange(4))] if rng.random() < 0.6 else make_value(rng)


async def read(answer: Any) -> Any:
    """An answer of whatever kind, to its end."""
    if inspect.isawaitable(answer):
        answer = await answer
    if inspect.isasyncgen(answer):
        return [piece async for piece in answer]
    return list(answer) if inspect.isgenerator(answer) else answer


def ask(llm: Any, method: str, *arguments: Any, **options: Any) -> Any:
    """Call a method, sync or async, and read its answer."""
    if not method.startswith("a"):
        answer = getattr(llm, method)(*arguments, **options)
        return list(answer) if inspect.isgenerator(answer) else answer

    async def run() -> Any:
        return await read(getattr(llm, method)(*arguments, **options))

    return asyncio.run(run())


PREFIXES = ("", "a", "stream_", "astream_")


def make_attempts(rng: random.Random, ensemble: Ensemble) -> Iterator[tuple[str, str, Any, Callable[[], Any]]]:
    """What to try, without end: a name for it, the argument, its value, and the call."""
    llm = DeepenLLM(ensemble=ensemble, max_tokens=2)
    structured = DeepenLLM(ensemble=ensemble, max_tokens=24)
    prompt, good = PromptTemplate("{x}"), [ChatMessage("Hi")]
    while True:
        prefix, value = rng.choice(PREFIXES), make_value(rng)
        chat, complete = f"{prefix}chat", f"{prefix}complete"
        match rng.randrange(8):
            case 0 | 1:
                said = make_messages(rng)
                yield chat, "messages", said, lambda chat=chat, said=said: ask(llm, chat, said)
            case 2:
                yield complete, "prompt", value, lambda complete=complete, value=value: ask(llm, complete, value)
            case 3:
                option = rng.choice(CHAT_OPTIONS)
                yield chat, option, value, lambda chat=chat, given={option: value}: ask(llm, chat, good, **given)
            case 4:
                option = rng.choice(CALL_OPTIONS)
                yield complete, option, value, lambda m=complete, given={option: value}: ask(llm, m, "Hi", **given)
            case 5:
                setting = rng.choice(SETTINGS)
                given = {"ensemble": ensemble, setting: value}
                yield "DeepenLLM", setting, value, lambda given=given: DeepenLLM(**given).complete("Hi", max_tokens=2)
            case 6:
                method = rng.choice(("predict", "apredict"))
                said = rng.choice((prompt, ChatPromptTemplate(good)))
                yield method, "x", value, lambda m=method, said=said, value=value: ask(llm, m, said, x=value)
            case 7:
                method = f"{prefix}structured_predict"
                argument = rng.choice(("output_cls", "llm_kwargs"))
                given = {"output_cls": Person, "prompt": prompt, "x": "Hi", argument: value}
                yield method, argument, value, lambda m=method, given=given: ask(structured, m, **given)


def names_argument(error: BaseException, argument: str) -> bool:
    """Whether an error says what was wrong."""
    known = {argument, argument.removesuffix("s"), WORDS.get(argument, argument)}
    return any(re.search(rf"\b{name}", str(error)) for name in known)


def find_miss(argument: str, call: Callable[[], Any]) -> BaseException | None:
    """What came where neither an answer nor an error of the right kind did."""
    try:
        call()
    except (DeepenError, ValidationError) as error:
        # A value that is put into a prompt is called by the prompt's name.
        return None if names_argument(error, "prompt" if argument == "x" else argument) else error
    except BaseException as error:
        return error
    return None


def check(ensemble: Ensemble, seed: int, num_inputs: int) -> None:
    """Try so many inputs; between them, a good request is answered as it was before all of them."""
    good = DeepenLLM(ensemble=ensemble, max_tokens=4)
    right, misses = good.complete("Once upon a time").text, []
    attempts = itertools.islice(make_attempts(random.Random(seed), ensemble), num_inputs)
    for number, (where, argument, value, call) in enumerate(attempts):
        if (error := find_miss(argument, call)) is not None:
            misses.append(f"{where}({argument}={value!r:.100}): {type(error).__name__}: {error!s:.200}")
        if number % 50 == 49:
            assert good.complete("Once upon a time").text == right, where
    assert ensemble.num_running == 0
    assert not misses, "\n".join(misses)


def test_any_value_for_any_argument_is_answered_or_refused_by_name(starter):
    check(starter, seed=0, num_inputs=300)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_many_values_for_any_argument_are_answered_or_refused_by_name(starter, seed):
    check(starter, seed, num_inputs=2_000)
