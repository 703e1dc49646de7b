"""Structured answers of an ensemble: they parse, whatever the members say."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from datetime import date
from typing import Literal

import pytest
import torch
from pydantic import BaseModel, Field

from deepen_llm import SamplingParams
from deepen_llm.errors import ConfigError, GrammarError
from deepen_llm.structure import StructureCompiler

KINDS = [("bpe", "sentencepiece"), ("sentencepiece", "bpe"), ("unigram", "bpe", "sentencepiece"), ("bpe",)]


class Pet(BaseModel):
    name: str
    kind: Literal["cat", "dog"]
    born: date
    weight: float | None
    toys: list[str] = Field(max_length=4)


NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
NAME_AND_REST = {"properties": {**NAME["properties"], "rest": {"const": 1}}, "required": ["name", "rest"]}


def shout_at_random(ensemble, seed):
    """Every member says anything with any confidence, the same for the same text."""
    for member in ensemble.members:

        def change(text, logits, name=member.name):
            digest = hashlib.sha256(f"{seed}{name}".encode() + text).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))
            return 12 * torch.randn(len(logits), generator=generator)

        member.change = change


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("temperature", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("num_tokens", [90, 120, 300])
def test_json_always_parses_from_any_model_at_any_temperature(make_ensemble, kinds, temperature, num_tokens):
    ensemble = make_ensemble(["Tell me of a pet."], kinds)
    for seed in range(3):
        shout_at_random(ensemble, seed)
        params = SamplingParams(json_schema=Pet, max_new_tokens=num_tokens, temperature=temperature, seed=seed)
        answer = ensemble.generate("Tell me of a pet.", params)
        assert answer.finish_reason == "stop"
        Pet.model_validate_json(answer.text)


@pytest.mark.parametrize("kinds", KINDS)
def test_regular_expressions_and_grammars_are_kept_to(make_ensemble, kinds):
    ensemble = make_ensemble(["Go on."], kinds)
    shout_at_random(ensemble, 0)
    regex = r"[A-Z][a-z]{2,8}( [a-z]+)*\."
    answer = ensemble.generate("Go on.", SamplingParams(regex=regex, max_new_tokens=60))
    assert re.fullmatch(regex, answer.text)
    grammar = 'start: ("ab" | "c")+ "!"'
    answer = ensemble.generate("Go on.", SamplingParams(grammar=grammar, max_new_tokens=40, temperature=2.0, seed=1))
    assert re.fullmatch("(ab|c)+!", answer.text)


def test_members_that_write_json_are_not_changed_by_its_schema(make_ensemble):
    text = '{"name": "Tom", "kind": "dog", "born": "2020-02-29", "weight": 4.5, "toys": ["ball", "bone"]}'
    ensemble = make_ensemble([f"A pet: {text}"])
    answer = ensemble.generate("A pet: ", SamplingParams(json_schema=Pet, max_new_tokens=200))
    assert answer.text == text
    assert not answer.is_shortened


def test_an_answer_that_runs_on_is_closed_before_its_tokens_run_out(make_ensemble):
    ensemble = make_ensemble(["Sing: " + "la " * 200])
    for num_tokens in (80, 100, 150):
        answer = ensemble.generate("Sing: ", SamplingParams(regex="[^x]*x", max_new_tokens=num_tokens))
        assert answer.text.endswith("x") and answer.is_shortened and answer.finish_reason == "stop"
        assert len(answer.token_ids) == num_tokens


def test_an_answer_that_cannot_fit_is_cut_and_says_so(make_ensemble):
    ensemble = make_ensemble(["Tell me of a pet."])
    shout_at_random(ensemble, 0)
    answer = ensemble.generate("Tell me of a pet.", SamplingParams(json_schema=Pet, max_new_tokens=12))
    assert answer.finish_reason == "length" and len(answer.token_ids) == 12 and not answer.is_shortened
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.text)


@pytest.mark.parametrize("context_length", [40, 60, 120])
@pytest.mark.parametrize("whose", [0, 1, None])
def test_an_answer_that_runs_on_is_closed_before_a_context_is_full(make_ensemble, context_length, whose):
    ensemble = make_ensemble(['Sing: "' + "la " * 400], context_length=10_000)
    for index, member in enumerate(ensemble.members):
        if whose in (index, None):
            member.context_length = context_length
    answer = ensemble.generate("Sing: ", SamplingParams(json_schema={"type": "string"}, max_new_tokens=1000))
    assert json.loads(answer.text).startswith("la la")
    assert (answer.finish_reason, answer.is_shortened) == ("stop", True)


def test_what_is_forced_takes_no_forward_pass(make_ensemble):
    ensemble = make_ensemble(["Tell me of a pet."])
    schema = {"const": {"sentence": "The quick brown fox jumps over the lazy dog.", "n": [1, 2, 3]}}
    params = SamplingParams(json_schema=schema, max_new_tokens=200, logprobs=1, trace=True)
    answer = ensemble.generate("Tell me of a pet.", params)
    assert json.loads(answer.text) == schema["const"]
    assert not any(member.passes for member in ensemble.members)
    assert answer.fusion.num_forced == answer.fusion.num_steps == len(answer.token_ids) == len(answer.trace)
    assert answer.fusion.share_fused == 0
    assert [step.step for step in answer.trace] == list(range(len(answer.token_ids)))
    assert all(step.members == () and not step.is_fused for step in answer.trace)
    assert all(entry.logprob == 0 and entry.top[0].prob == 1 for entry in answer.logprobs)


def test_members_hear_what_was_forced(make_ensemble):
    ensemble = make_ensemble(['Say it. {"name": "Tom", "rest": 1}'])
    answer = ensemble.generate("Say it. ", SamplingParams(json_schema=NAME_AND_REST, max_new_tokens=80))
    assert answer.text == '{"name": "Tom", "rest": 1}'
    assert 0 < answer.fusion.num_forced < answer.fusion.num_steps
    assert answer.fusion.share_fused == 1
    for member in ensemble.members:
        assert not member.rows


def test_streams_of_structured_answers_join_to_them(make_ensemble):
    ensemble = make_ensemble(["Tell me of a pet."])
    shout_at_random(ensemble, 1)
    params = SamplingParams(json_schema=Pet, max_new_tokens=120, logprobs=2)
    chunks = list(ensemble.stream("Tell me of a pet.", params))
    whole = ensemble.generate("Tell me of a pet.", params)
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert [token_id for chunk in chunks for token_id in chunk.token_ids] == list(whole.token_ids)
    assert chunks[-1].finish_reason == "stop" and chunks[-1].is_shortened == whole.is_shortened
    assert not any(chunk.is_shortened for chunk in chunks[:-1])


def test_structured_and_free_answers_share_a_batch(make_ensemble):
    texts = ["Once upon a time there was a girl.", "What is the capital of France? Paris."]
    ensemble = make_ensemble(texts)
    alone = [
        ensemble.generate(texts[0][:10], SamplingParams(max_new_tokens=60)),
        ensemble.generate(texts[1][:31], SamplingParams(regex="[A-Z][a-z]+")),
    ]
    streams = [
        ensemble.stream(texts[0][:10], SamplingParams(max_new_tokens=60)),
        ensemble.stream(texts[1][:31], SamplingParams(regex="[A-Z][a-z]+")),
    ]
    together = ["".join(chunk.text for chunk in stream) for stream in streams]
    assert together == [answer.text for answer in alone]


@pytest.mark.parametrize("said", ["dog", "dove", "donkey", "cat"])
def test_of_several_choices_the_one_comes_that_the_members_say(make_ensemble, said):
    choices = ["cat", "dog", "donkey", "dove"]
    ensemble = make_ensemble([f'A pet: "{said}"', f"A beast: {said}. And more."])
    assert ensemble.generate("A pet: ", SamplingParams(json_schema={"enum": choices})).text == f'"{said}"'
    assert ensemble.generate("A beast: ", SamplingParams(regex="(" + "|".join(choices) + ")")).text == said


def test_going_on_outside_ends_an_answer_that_may_end(make_ensemble):
    ensemble = make_ensemble(["2 + 2 = 4\nNext question: 3 + 3 ="])
    answer = ensemble.generate("2 + 2 = ", SamplingParams(regex="[0-9]+", max_new_tokens=20))
    assert (answer.text, answer.finish_reason) == ("4", "stop")


def test_going_on_outside_closes_the_value_at_hand(make_ensemble):
    ensemble = make_ensemble(['City: "Rome\nNext: "Oslo\n'])
    answer = ensemble.generate("City: ", SamplingParams(json_schema={"type": "string"}, max_new_tokens=60))
    assert (answer.text, answer.finish_reason, answer.is_shortened) == ('"Rome"', "stop", False)


def test_logprobs_are_those_of_what_may_come(make_ensemble):
    ensemble = make_ensemble(["Yes or no? Maybe."])
    answer = ensemble.generate("Yes or no? ", SamplingParams(regex="(yes|no)", logprobs=5))
    first = answer.logprobs[0]
    assert sum(candidate.prob for candidate in first.top) == pytest.approx(1.0, abs=1e-4)
    assert {candidate.text[0] for candidate in first.top} <= {"y", "n"}


def test_room_of_members_with_the_main_models_tokens_is_counted_in_tokens(make_ensemble):
    ensemble = make_ensemble(["Tell me."], kinds=("bpe",))
    shout_at_random(ensemble, 0)
    params = SamplingParams(json_schema=Pet, temperature=1.0, seed=0, max_new_tokens=400)
    num_prompt = ensemble.generate("Tell me.", params.replace(max_new_tokens=1)).usage.prompt_tokens
    closed = 0
    for num_tokens in (60, 75, 85, 90, 110):
        ensemble.members[0].context_length = 10_000
        by_limit = ensemble.generate("Tell me.", params.replace(max_new_tokens=num_tokens))
        ensemble.members[0].context_length = num_prompt + num_tokens
        by_context = ensemble.generate("Tell me.", params)
        assert by_context.finish_reason == by_limit.finish_reason
        closed += by_limit.finish_reason == "stop"
    assert 0 < closed < 5


@pytest.mark.parametrize(
    ("structure", "is_value"),
    [
        ({"json_schema": {"type": "integer"}}, True),
        ({"regex": "[0-9]+"}, True),
        ({"grammar": "start: /[0-9]+/"}, False),
    ],
)
def test_what_is_whole_at_the_limit_is_not_cut(make_ensemble, structure, is_value):
    ensemble = make_ensemble(["Pi: 31415926535897932384626"])
    answer = ensemble.generate("Pi: ", SamplingParams(**structure, max_new_tokens=3))
    assert answer.text.isdecimal() and len(answer.token_ids) == 3
    assert answer.finish_reason == ("stop" if is_value else "length")
    assert answer.is_shortened == is_value


async def test_async_answers_are_structured_as_well(make_ensemble):
    ensemble = make_ensemble(["Tell me of a pet."])
    shout_at_random(ensemble, 2)
    params = SamplingParams(json_schema=Pet, max_new_tokens=100)
    answer = await ensemble.agenerate("Tell me of a pet.", params)
    pieces = [chunk.text async for chunk in ensemble.astream("Tell me of a pet.", params)]
    assert "".join(pieces) == answer.text
    Pet.model_validate_json(answer.text)


async def test_the_event_loop_goes_on_while_a_structure_is_compiled(make_ensemble, monkeypatch):
    ensemble = make_ensemble(["Tell me of a pet."])
    compile_ = StructureCompiler.compile
    monkeypatch.setattr(
        StructureCompiler, "compile", lambda *given, **more: (time.sleep(0.3), compile_(*given, **more))[1]
    )
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    messages = [{"role": "user", "content": "Go on."}]
    params = SamplingParams(json_schema={"const": 1})
    assert (await ensemble.agenerate("Go on.", params)).text == "1"
    assert [answer.text for answer in await ensemble.agenerate(["Go on."], params)] == ["1"]
    assert (await ensemble.achat(messages, params)).text == "1"
    for stream in (ensemble.astream("Go on.", params), ensemble.astream_chat(messages, params)):
        assert "".join([chunk.text async for chunk in stream]) == "1"
    ticking.cancel()
    assert ticks > 60


async def test_a_stream_that_is_closed_while_its_structure_is_compiled_starts_nothing(make_ensemble, monkeypatch):
    ensemble = make_ensemble(["Tell me of a pet."])
    compile_ = StructureCompiler.compile
    monkeypatch.setattr(
        StructureCompiler, "compile", lambda *given, **more: (time.sleep(0.2), compile_(*given, **more))[1]
    )
    ensemble.members[0].before_pass = lambda tokens: time.sleep(0.01)
    stream = ensemble.astream("Go on.", SamplingParams(regex="[a-z]{300,}", max_new_tokens=300))
    await stream.aclose()
    assert [chunk async for chunk in stream] == []
    await asyncio.sleep(0.5)
    assert ensemble.num_running == 0


async def test_what_cannot_be_expressed_is_an_error_of_an_async_streams_first_piece(make_ensemble):
    ensemble = make_ensemble(["Tell me of a pet."])
    stream = ensemble.astream("Go on.", SamplingParams(regex="("))
    with pytest.raises(GrammarError, match="unclosed group"):
        await anext(stream)
    assert ensemble.num_running == 0


async def test_cancelling_while_a_structure_is_compiled_leaves_nothing_running(make_ensemble, monkeypatch):
    ensemble = make_ensemble(["Tell me of a pet."])
    compile_ = StructureCompiler.compile
    monkeypatch.setattr(
        StructureCompiler, "compile", lambda *given, **more: (time.sleep(0.2), compile_(*given, **more))[1]
    )
    ensemble.members[0].before_pass = lambda tokens: time.sleep(0.01)
    task = asyncio.create_task(ensemble.agenerate("Go on.", SamplingParams(regex="[a-z]{300,}", max_new_tokens=300)))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.5)
    assert ensemble.num_running == 0


def test_what_cannot_be_expressed_is_refused_at_the_call_and_nothing_runs(make_ensemble):
    ensemble = make_ensemble(["Go on."])
    with pytest.raises(GrammarError, match="uniqueItems"):
        ensemble.generate("Go on.", SamplingParams(json_schema={"type": "array", "uniqueItems": True}))
    assert ensemble.num_running == 0
    assert not any(member.passes for member in ensemble.members)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"regex": "a", "grammar": "start: b"}, "regex and grammar"),
        ({"json_schema": {}, "regex": "a"}, "json_schema and regex"),
        ({"regex": "a", "ignore_eos": True}, "ignore_eos"),
        ({"json_schema": {}, "stop": ["x"]}, r"stop would cut an answer by json_schema; got stop=\['x'\]"),
        ({"json_schema": "not a schema"}, "json_schema"),
    ],
)
def test_structures_that_contradict_are_refused(wrong, named):
    with pytest.raises(ConfigError, match=named):
        SamplingParams(**wrong)
