"""Prediction: objects that are always valid, prompts whose parser can always read, and what observers see of it."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.output_parsers import PydanticOutputParser
from llama_index.core.program import FunctionCallingProgram, LLMTextCompletionProgram
from llama_index.core.program.utils import get_program_for_llm
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate
from pydantic import BaseModel, Field, ValidationError, field_validator

from deepen_llm.errors import ConfigError, GrammarError, MemberError
from llama_index.llms.deepen import DeepenLLM

LAMP = '{"owner": "Orin", "number": 3}'
CALL = f'{{"name": "Lamp", "arguments": {LAMP}}}'
WAYS = ("structured_predict", "astructured_predict", "stream_structured_predict", "astream_structured_predict")


class Lamp(BaseModel):
    """A lamp."""

    owner: str = Field(description="Who has it.")
    number: int = Field(ge=0, le=99)

    @field_validator("owner")
    @classmethod
    def _no_nobody(cls, owner):
        if owner == "nobody":
            raise ValueError("somebody must own it")
        return owner


PROMPT = PromptTemplate("The lamp of {whom}?")


@pytest.fixture(params=[True, False], ids=["chat model", "completion model"])
def any_llm(request, ensemble):
    return DeepenLLM(ensemble=ensemble, is_chat_model=request.param, stop=["\n"], max_tokens=40)


async def _predict(llm, method, output_cls=Lamp, prompt=PROMPT, **arguments):
    """What any of the four ways gives, as a list."""
    result = getattr(llm, method)(output_cls, prompt, whom="Orin", **arguments)
    if method == "stream_structured_predict":
        return list(result)
    if method == "structured_predict":
        return [result]
    result = await result
    return [output async for output in result] if method.startswith("astream") else [result]


@pytest.mark.parametrize("method", WAYS)
async def test_every_way_asks_in_words_decodes_by_the_schema_and_gives_the_object(any_llm, ensemble, method):
    ensemble.answers = [LAMP]
    outputs = await _predict(any_llm, method)
    assert outputs[-1] == Lamp(owner="Orin", number=3)
    ((_, content, params),) = ensemble.calls
    words = (
        'Answer with JSON only: an object with "owner" (text; Who has it), "number" (a whole number, at least 0, '
        "at most 99). About it: A lamp."
    )
    text = f"The lamp of Orin?\n{words}"
    assert content == ([{"role": "user", "content": text}] if any_llm.is_chat_model else f"{text}\n")
    assert (params.json_schema, params.stop, params.max_new_tokens) == (Lamp.model_json_schema(), (), 40)


@pytest.mark.parametrize("method", WAYS)
async def test_the_options_of_a_call_reach_the_engine(any_llm, ensemble, method):
    ensemble.answers = [LAMP]
    await _predict(any_llm, method, llm_kwargs={"max_tokens": 30, "temperature": 0.5})
    assert (ensemble.calls[0][2].max_new_tokens, ensemble.calls[0][2].temperature) == (30, 0.5)
    with pytest.raises(ConfigError, match="no option 'temprature'"):
        await _predict(any_llm, method, llm_kwargs={"temprature": 0.5})
    with pytest.raises(ConfigError, match="got stop='x', which could cut it"):
        await _predict(any_llm, method, llm_kwargs={"stop": "x"})
    assert len(ensemble.calls) == 1


@pytest.mark.parametrize("method", WAYS)
async def test_an_object_that_does_not_fit_is_an_error_that_names_the_limit(any_llm, ensemble, method):
    ensemble.answers, ensemble.finish_reason = [LAMP[:-8], LAMP[:-8]], "length"
    with pytest.raises(ConfigError, match=r"max_tokens=40 .*finish_reason 'length'.* before the Lamp was whole"):
        await _predict(any_llm, method)
    with pytest.raises(ConfigError, match="max_tokens=30 "):
        await _predict(any_llm, method, llm_kwargs={"max_new_tokens": 30})


@pytest.mark.parametrize("method", WAYS)
async def test_a_validator_of_the_class_may_refuse_what_its_schema_allows(any_llm, ensemble, method):
    ensemble.answers = ['{"owner": "nobody", "number": 3}']
    with pytest.raises(ValidationError, match="somebody must own it"):
        await _predict(any_llm, method)


@pytest.mark.parametrize("method", WAYS)
async def test_a_failing_member_surfaces_at_once(any_llm, ensemble, method):
    ensemble.answers, ensemble.error, ensemble.error_at = [LAMP], MemberError("beta failed at step 2"), LAMP[6:12]
    with pytest.raises(MemberError, match="beta failed at step 2"):
        await _predict(any_llm, method)
    assert ensemble.num_running == 0


@pytest.mark.parametrize("method", WAYS[2:])
async def test_a_stream_gives_the_fields_so_far(any_llm, ensemble, method):
    ensemble.answers = [LAMP]
    *partials, last = await _predict(any_llm, method)
    owners = [partial.owner for partial in partials]
    assert owners[0] is None and "O" in owners and owners[-1] == "Orin"
    assert [partial.number for partial in partials][:2] == [None, None]
    assert type(last) is Lamp and not any(isinstance(partial, Lamp) for partial in partials)


def test_an_abandoned_stream_of_objects_stops_the_work(any_llm, ensemble):
    ensemble.answers = [LAMP]
    stream = any_llm.stream_structured_predict(Lamp, PROMPT, whom="Orin")
    next(stream)
    assert ensemble.num_running == 1
    stream.close()
    assert (ensemble.num_running, ensemble.num_cancelled) == (0, 1)


async def test_an_abandoned_async_stream_of_objects_stops_the_work(any_llm, ensemble):
    ensemble.answers = [LAMP]
    stream = await any_llm.astream_structured_predict(Lamp, PROMPT, whom="Orin")
    await anext(stream)
    await stream.aclose()
    assert (ensemble.num_running, ensemble.num_cancelled) == (0, 1)


@pytest.mark.parametrize("method", WAYS)
async def test_the_token_counter_counts_an_object_once(ensemble, method):
    counter = TokenCountingHandler(tokenizer=lambda text: pytest.fail("estimated"))
    llm = DeepenLLM(ensemble=ensemble, callback_manager=CallbackManager([counter]))
    ensemble.answers = [LAMP]
    await _predict(llm, method)
    assert [event.total_token_count for event in counter.llm_token_counts] == [18]


def test_a_prompt_of_messages_keeps_them_and_the_system_prompt(ensemble):
    ensemble.answers = [LAMP]
    llm = DeepenLLM(ensemble=ensemble, system_prompt="Be brief.")
    prompt = ChatPromptTemplate.from_messages([("user", "{whom} has {one}."), ("assistant", "A lamp.")])
    llm.structured_predict(Lamp, prompt, whom="Orin", one="{a lamp}")
    contents = [message["content"] for message in ensemble.calls[0][1]]
    assert contents[:3] == ["Be brief.", "Orin has {a lamp}.", "A lamp."]
    assert contents[3].startswith("Answer with JSON only")


async def test_a_prompt_whose_parser_is_known_is_answered_in_what_it_reads(any_llm, ensemble):
    prompt = PromptTemplate("The lamp of {whom}?", output_parser=PydanticOutputParser(Lamp))
    ensemble.answers = [LAMP, LAMP]
    assert json.loads(any_llm.predict(prompt, whom="Orin")) == json.loads(LAMP)
    assert await any_llm.apredict(prompt, whom="Orin") == LAMP
    assert [params.json_schema for _, _, params in ensemble.calls] == [Lamp.model_json_schema()] * 2
    ensemble.answers, ensemble.finish_reason = [LAMP[:-8]], "length"
    with pytest.raises(ConfigError, match=r"max_tokens=40 .* the JSON text for the prompt's output parser was whole"):
        any_llm.predict(prompt, whom="Orin")


async def test_a_prompt_without_a_parser_is_answered_in_text(any_llm, ensemble):
    assert any_llm.predict(PROMPT, whom="Orin") == await any_llm.apredict(PROMPT, whom="Orin") == "Paris is it."
    assert not any(params.is_structured for _, _, params in ensemble.calls)
    assert [params.stop for _, _, params in ensemble.calls] == [("\n",)] * 2


def test_the_parser_of_the_llm_itself_is_read_too(ensemble):
    ensemble.answers = [LAMP]
    llm = DeepenLLM(ensemble=ensemble, output_parser=PydanticOutputParser(Lamp))
    assert "owner='Orin'" in llm.predict(PROMPT, whom="Orin")
    assert ensemble.calls[0][2].json_schema == Lamp.model_json_schema()


async def test_a_program_of_llama_index_takes_its_object_from_a_call(llm, ensemble):
    program = get_program_for_llm(Lamp, PROMPT, llm)
    assert isinstance(program, FunctionCallingProgram)
    ensemble.answers = [CALL] * 4
    outputs = [program(whom="Orin"), await program.acall(whom="Orin"), *program.stream_call(whom="Orin")]
    outputs += [output async for output in await program.astream_call(whom="Orin")]
    assert outputs == [Lamp(owner="Orin", number=3)] * 4
    assert all(params.grammar.startswith("start: calls\n") for _, _, params in ensemble.calls)


def test_a_program_without_templates_asks_for_text(ensemble):
    ensemble.has_chat_template, ensemble.answers = False, [LAMP]
    program = get_program_for_llm(Lamp, PromptTemplate("The lamp of {whom}?"), DeepenLLM(ensemble=ensemble))
    assert isinstance(program, LLMTextCompletionProgram)
    assert program(whom="Orin") == Lamp(owner="Orin", number=3)


@pytest.mark.parametrize("is_chat_model", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 1.0, 20.0])
def test_objects_of_the_starter_models_are_always_valid(starter, is_chat_model, temperature):
    llm = DeepenLLM(ensemble=starter, is_chat_model=is_chat_model, temperature=temperature, seed=3, stop=["\n"])
    lamp = llm.structured_predict(Lamp, PROMPT, whom="Orin", llm_kwargs={"max_tokens": 60})
    assert 0 <= lamp.number <= 99
    *_, last = llm.stream_structured_predict(Lamp, PROMPT, whom="Orin", llm_kwargs={"max_tokens": 60})
    assert last == lamp
    with pytest.raises(ConfigError, match=r"max_tokens=3 .*finish_reason 'length'"):
        llm.structured_predict(Lamp, PROMPT, whom="Orin", llm_kwargs={"max_tokens": 3})


@pytest.mark.parametrize("temperature", [0.0, 5.0])
def test_programs_of_the_starter_models_are_always_valid(starter, temperature):
    llm = DeepenLLM(ensemble=starter, temperature=temperature, seed=3, max_tokens=120)
    program = get_program_for_llm(Lamp, PROMPT, llm)
    assert type(program(whom="Orin")) is Lamp
    assert [type(output) for output in program.stream_call(whom="Orin")] == [Lamp]


def test_a_schema_that_no_grammar_can_express_is_an_error_at_the_call(starter):
    class Odd(BaseModel):
        size: int = Field(json_schema_extra={"not": {"const": 1}})

    with pytest.raises(GrammarError, match="not"):
        DeepenLLM(ensemble=starter).structured_predict(Odd, PROMPT, whom="Orin")
    assert starter.num_running == 0


async def test_cancelling_a_prediction_frees_the_engine(starter):
    class Story(BaseModel):
        chapters: list[str] = Field(min_length=200)

    llm = DeepenLLM(ensemble=starter, max_tokens=900)
    task = asyncio.create_task(llm.astructured_predict(Story, PROMPT, whom="Orin"))
    while not starter.num_running and not task.done():
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    deadline = time.monotonic() + 20
    while starter.num_running and time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    assert starter.num_running == 0
