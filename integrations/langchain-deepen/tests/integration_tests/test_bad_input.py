"""Anything for any argument: an answer, or an error that names the argument; and the next good request is right."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from pydantic import BaseModel, ValidationError

from deepen_llm import Ensemble
from deepen_llm.errors import DeepenError
from langchain_deepen import ChatDeepen, DeepenLLM


class Person(BaseModel):
    """A schema, where one is not expected."""

    name: str


ATOMS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**70, 0.5, -0.0, 1e300, math.nan, math.inf, Decimal("0.1"), 3j),
    *("", "x", "\n", "a b", "\ud800", "<s></s>", "auto", "starter", "é" * 30, b"", b"x", bytearray(b"x")),
    *(object(), int, Person, Person(name="x"), len, Path("x"), ValueError("x"), range(3), {1, 2}, ...),
)
BLOCKS: tuple[Any, ...] = (
    {"type": "text", "text": "Hi"},
    {"type": "text"},
    {"type": "text", "text": 5},
    {"type": "image_url", "image_url": {"url": "data:,x"}},
    {"type": "audio", "base64": "", "mime_type": "audio/wav"},
    {"type": "tool_use", "name": "add", "input": {}, "id": "1"},
    {"type": 5},
    {},
    "words",
)
CALL = {"name": "add", "args": {"a": 1}, "id": "c1"}
MESSAGES: tuple[Any, ...] = (
    *(HumanMessage("Hi"), HumanMessage(""), HumanMessage("\ud800"), HumanMessage([]), SystemMessage("Be brief.")),
    *(AIMessage("Hello"), AIMessage("", tool_calls=[CALL]), ToolMessage("3", tool_call_id="c1"), RemoveMessage(id="1")),
    *(ToolMessage("3", tool_call_id="lost"), FunctionMessage("3", name="add"), ChatMessage("Hi", role="developer")),
    *(ChatMessage("Hi", role="king"), ("human", "Hi"), ("king", "Hi"), ("human",), ("human", None), ("human", 5)),
    *({"role": "user", "content": "Hi"}, {"role": "developer", "content": "Hi"}, {"role": "user"}, {"content": "Hi"}),
    *({"role": "user", "content": None}, {"type": "human", "content": [{"type": "text", "text": "Hi"}]}),
    *(HumanMessage([block]) for block in BLOCKS if block != {}),
)
OPTIONS = (
    *("temperature", "max_tokens", "max_new_tokens", "top_p", "top_k", "min_p", "stop", "seed", "logprobs"),
    *("ignore_eos", "trace", "json_schema", "regex", "grammar", "timeout", "max_retries", "streaming"),
)
CALL_OPTIONS = (*OPTIONS, "model")
CHAT_OPTIONS = (*CALL_OPTIONS, "tools", "tool_choice", "parallel_tool_calls", "response_format")
SETTINGS = (*OPTIONS, "model", "weights", "main", "fusion", "max_batch_size", "member_options", "ensemble")
"""What is given alone, beside an ensemble that is ready."""
ALIASES = {
    **{"max_new_tokens": "max_tokens", "ensemble": "opened", "schema": "json_schema", "json_schema": "JSON schema"},
    **{
        "fusion": "FusionConfig",
        "weights": "WeightingConfig",
        "model": "EnsembleConfig|loaded from",
        "regex": "regular expression",
    },
}
"""What else errors call an argument."""
OF_LANGCHAIN = re.compile(
    r"Invalid input type|[Uu]nsupported message type|[Uu]nexpected message type|message dict|[Mm]essage"
)
"""How LangChain says that an input is none, or holds what is no message."""


def make_value(rng: random.Random, depth: int = 0) -> Any:
    """Any value of any type, nested or not."""
    kind = rng.randrange(10)
    if kind < 5 or depth > 2:
        return rng.choice(ATOMS)
    if kind == 5:
        return rng.choice(BLOCKS)
    if kind == 6:
        return rng.choice(MESSAGES)
    values = [make_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 7:
        return values
    if kind == 8:
        return tuple(values)
    names = ("type", "title", "properties", "name", "description", "parameters", "x", 5)
    return {rng.choice(names): value for value in values}


def make_input(rng: random.Random) -> Any:
    """What a model may be asked, and more."""
    if rng.random() < 0.5:
        return [rng.choice(MESSAGES) for _ in range(rng.randrange(4))]
    return make_value(rng)


async def collect(stream: Any) -> list[Any]:
    return [piece async for piece in stream]


METHODS: dict[str, Callable[..., Any]] = {
    "invoke": lambda model, asked, /, **options: model.invoke(asked, **options),
    "stream": lambda model, asked, /, **options: list(model.stream(asked, **options)),
    "batch": lambda model, asked, /, **options: model.batch([asked, "Hi"], **options),
    "ainvoke": lambda model, asked, /, **options: asyncio.run(model.ainvoke(asked, **options)),
    "astream": lambda model, asked, /, **options: asyncio.run(collect(model.astream(asked, **options))),
    "abatch": lambda model, asked, /, **options: asyncio.run(model.abatch([asked], **options)),
    "bind": lambda model, asked, /, **options: model.bind(**options).invoke(asked),
}


def make_attempts(rng: random.Random, ensemble: Ensemble) -> Iterator[tuple[str, str, Any, Callable[[], Any]]]:
    """What to try, without end: a name for it, the argument, its value, and the call."""
    models = [DeepenLLM(ensemble=ensemble, max_tokens=2), ChatDeepen(ensemble=ensemble, max_tokens=2)]
    while True:
        model = rng.choice(models)
        is_chat = isinstance(model, ChatDeepen)
        name, method = rng.choice(list(METHODS.items()))
        value = make_value(rng)
        where = f"{type(model).__name__}.{name}"
        match rng.randrange(6 if is_chat else 3):
            case 0:
                asked = make_input(rng)
                yield where, "input", asked, lambda method=method, model=model, asked=asked: method(model, asked)
            case 1:
                option = rng.choice(CHAT_OPTIONS if is_chat else CALL_OPTIONS)
                given = {option: value}
                yield where, option, value, lambda m=method, model=model, given=given: m(model, "Hi", **given)
            case 2:
                setting = rng.choice(SETTINGS)
                given = {"ensemble": ensemble, setting: value}
                kind = type(model)
                yield (
                    kind.__name__,
                    setting,
                    value,
                    lambda kind=kind, given=given: kind(**given).invoke("Hi", max_tokens=2),
                )
            case 3:
                argument = rng.choice(("schema", "method", "include_raw", "strict"))
                given = {"schema": Person, argument: value}
                yield (
                    "with_structured_output",
                    argument,
                    value,
                    lambda model=model, given=given: model.with_structured_output(**given).invoke("Hi", max_tokens=8),
                )
            case 4:
                argument = rng.choice(("tools", "tool_choice", "strict", "parallel_tool_calls"))
                given = {"tools": [Person], argument: value}
                yield (
                    "bind_tools",
                    argument,
                    value,
                    lambda model=model, given=given: model.bind_tools(**given).invoke("Hi"),
                )
            case 5:
                asked = make_input(rng)
                yield (
                    "get_num_tokens_from_messages",
                    "input",
                    asked,
                    lambda model=model, asked=asked: model.get_num_tokens_from_messages(asked),
                )


def names_argument(error: BaseException, argument: str) -> bool:
    """Whether an error says what was wrong."""
    text = str(error)
    if argument == "input":
        return bool(re.search(r"message|prompt|input", text, re.IGNORECASE))
    known = {argument, ALIASES.get(argument, argument), argument.removesuffix("s")}
    return any(re.search(rf"\b{name}", text) for name in known)


def find_miss(argument: str, call: Callable[[], Any]) -> BaseException | None:
    """What came where neither an answer nor an error of the right kind did."""
    try:
        call()
    except OutputParserException:
        return None  # an answer that was cut
    except (DeepenError, ValidationError) as error:
        return None if names_argument(error, argument) else error
    except (ValueError, NotImplementedError, TypeError) as error:
        is_langchains = argument == "input" and OF_LANGCHAIN.search(str(error))
        return None if is_langchains else error
    except BaseException as error:
        return error
    return None


def check(ensemble: Ensemble, seed: int, num_inputs: int) -> None:
    """Try so many inputs; between them, a good request is answered as it was before all of them."""
    good = DeepenLLM(ensemble=ensemble, max_tokens=4)
    right, misses = good.invoke("Once upon a time"), []
    attempts = itertools.islice(make_attempts(random.Random(seed), ensemble), num_inputs)
    for number, (where, argument, value, call) in enumerate(attempts):
        if (error := find_miss(argument, call)) is not None:
            misses.append(f"{where}({argument}={value!r:.100}): {type(error).__name__}: {error!s:.200}")
        if number % 50 == 49:
            assert good.invoke("Once upon a time") == right, where
    assert ensemble.num_running == 0
    assert not misses, "\n".join(misses)


def test_any_value_for_any_argument_is_answered_or_refused_by_name(ensemble):
    check(ensemble, seed=0, num_inputs=300)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_many_values_for_any_argument_are_answered_or_refused_by_name(ensemble, seed):
    check(ensemble, seed, num_inputs=2_000)
