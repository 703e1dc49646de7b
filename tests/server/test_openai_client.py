"""What OpenAI's own client gets of a server, over a real port."""

from __future__ import annotations

import json

import httpx
import openai
import pydantic
import pytest

from deepen_llm import SamplingParams

PROMPT = "Question: What is the capital of France? Answer:"
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "find_capital",
        "description": "Finds a capital",
        "parameters": {
            "type": "object",
            "properties": {"country": {"enum": ["France", "Peru"]}},
            "required": ["country"],
        },
    },
}


class City(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=12)
    is_capital: bool


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_completion_is_the_ensembles_own_answer(client, starter):
    own = starter.generate(PROMPT, SamplingParams(max_new_tokens=8, logprobs=2))
    answer = client.completions.create(model="deepen", prompt=PROMPT, max_tokens=8, temperature=0, logprobs=2)
    choice = answer.choices[0]
    assert (choice.text, choice.finish_reason) == (own.text, own.finish_reason)
    assert choice.logprobs.token_logprobs == pytest.approx([one.logprob for one in own.logprobs], abs=1e-5)
    assert answer.usage.prompt_tokens == own.usage.prompt_tokens
    assert answer.usage.completion_tokens == own.usage.completion_tokens


def test_a_chat_is_the_ensembles_own_answer(client, starter):
    own = starter.chat(MESSAGES, SamplingParams(max_new_tokens=8))
    answer = client.chat.completions.create(model="deepen", messages=MESSAGES, max_tokens=8, temperature=0)
    assert answer.choices[0].message.content == own.text
    weights = dict(zip(starter.member_names, own.fusion.weights, strict=True))
    assert answer.choices[0].deepen["weights"] == pytest.approx(weights)


@pytest.mark.parametrize("name", ["llama", "neox", "qwen2"])
def test_a_member_is_asked_alone_by_its_name(client, name, starter):
    vocabulary = starter.members[starter.member_names.index(name)].vocabulary
    ids = list(vocabulary.encode_prompt(PROMPT).ids)
    answer = client.completions.create(
        model=name, prompt=ids, max_tokens=1, temperature=0, logprobs=300,
        extra_body={"return_tokens_as_token_ids": True},
    )  # fmt: skip
    tops = answer.choices[0].logprobs.top_logprobs[0]
    assert len(tops) == 300
    assert all(0 <= int(token.removeprefix("token_id:")) < len(vocabulary) for token in tops)
    assert answer.choices[0].deepen["weights"] == {name: 1.0}
    assert name in [model.id for model in client.models.list()]


def test_a_model_says_what_one_must_know_to_ask_it(client, starter):
    model = client.models.retrieve("neox")
    member = starter.members[1]
    assert (model.owned_by, model.max_model_len, model.members) == ("deepen", member.context_length, ["neox"])
    assert model.meta == {"n_vocab": len(member.vocabulary), "n_params": member.num_parameters}
    with pytest.raises(openai.NotFoundError, match="there is no model 'a/b'"):
        client.models.retrieve("a/b")


def test_the_pieces_of_a_stream_join_to_the_whole_and_end_with_the_usage(client):
    whole = client.chat.completions.create(model="deepen", messages=MESSAGES, max_tokens=8, temperature=0)
    stream = client.chat.completions.create(
        model="deepen", messages=MESSAGES, max_tokens=8, temperature=0, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    *pieces, last = list(stream)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == whole.choices[0].message.content
    assert pieces[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert (last.choices, last.usage) == ([], whole.usage)


def test_several_answers_stream_side_by_side(client):
    asked = {"model": "deepen", "prompt": [PROMPT, "Once"], "max_tokens": 6, "n": 2, "temperature": 1, "seed": 3}
    whole = client.completions.create(**asked)
    texts = [""] * 4
    for piece in client.completions.create(**asked, stream=True):
        texts[piece.choices[0].index] += piece.choices[0].text
    assert texts == [choice.text for choice in whole.choices]
    assert len(set(texts)) == 4


async def test_the_async_client_is_answered_too(server):
    async with openai.AsyncOpenAI(base_url=f"{server.address}/v1", api_key="none") as client:
        stream = await client.completions.create(
            model="deepen", prompt=PROMPT, max_tokens=4, temperature=0, stream=True
        )
        assert "Paris" in "".join([piece.choices[0].text async for piece in stream])


def test_an_answer_is_parsed_by_its_class(client):
    answer = client.chat.completions.parse(
        model="deepen", messages=MESSAGES, response_format=City, max_tokens=40, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, City)


def test_an_answer_of_any_json_object_parses(client):
    answer = client.chat.completions.create(
        model="deepen", messages=MESSAGES, response_format={"type": "json_object"}, max_tokens=30, temperature=0
    )
    assert isinstance(json.loads(answer.choices[0].message.content), dict)


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_tool_that_has_to_be_called_is(client, is_stream):
    asked = {
        "model": "deepen", "messages": MESSAGES, "tools": [TOOL], "tool_choice": "required", "max_tokens": 60,
        "temperature": 0,
    }  # fmt: skip
    if is_stream:
        with client.chat.completions.stream(**asked) as stream:
            choice = stream.get_final_completion().choices[0]
    else:
        choice = client.chat.completions.create(**asked).choices[0]
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0]
    assert call.function.name == "find_capital"
    assert json.loads(call.function.arguments)["country"] in ("France", "Peru")


def test_the_result_of_a_call_is_read(client):
    call = {"id": "1", "type": "function", "function": {"name": "find_capital", "arguments": '{"country": "France"}'}}
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "Paris"},
    ]
    answer = client.chat.completions.create(model="deepen", messages=messages, tools=[TOOL], max_tokens=4)
    assert answer.usage.prompt_tokens > 20


def test_a_trace_tells_what_every_member_said(client, starter):
    answer = client.completions.create(
        model="deepen", prompt=PROMPT, max_tokens=2, temperature=0, extra_body={"deepen": {"trace": True}}
    )
    first = answer.choices[0].deepen["trace"][0]
    assert [member["member"] for member in first["members"]] == list(starter.member_names)


@pytest.mark.parametrize("prior", [{"neox": 1.0}, [0.0, 1.0, 0.0]])
def test_a_request_may_say_who_counts(client, prior):
    answer = client.completions.create(
        model="deepen", prompt=PROMPT, max_tokens=3, temperature=0, extra_body={"deepen": {"prior": prior}}
    )
    assert answer.choices[0].deepen["weights"] == {"llama": 0.0, "neox": 1.0, "qwen2": 0.0}


def test_a_seed_repeats_an_answer(client):
    asked = {"model": "deepen", "messages": MESSAGES, "max_tokens": 12, "seed": 5, "n": 2}
    texts = [[c.message.content for c in client.chat.completions.create(**asked).choices] for _ in range(2)]
    assert texts[0] == texts[1]


BAD = {
    "n": ({"n": 0}, "n"),
    "a negative limit": ({"max_tokens": -1}, "max_tokens"),
    "a text for a number": ({"temperature": "hot"}, "temperature"),
    "logit_bias": ({"logit_bias": {"13": 200}}, "logit_bias"),
    "greedy and several": ({"n": 2, "temperature": 0}, None),
    "a field of others": ({"extra_body": {"best_of": 3}}, "best_of"),
    "an unknown field": ({"extra_body": {"temprature": 1}}, "temprature"),
    "an unknown extension": ({"extra_body": {"deepen": {"wieghts": [1]}}}, "deepen"),
    "a member there is none of": ({"extra_body": {"deepen": {"prior": {"gpt": 1.0}}}}, "deepen"),
    "too few weights": ({"extra_body": {"deepen": {"prior": [0.5, 0.5]}}}, "deepen"),
    "weights that do not sum to 1": ({"extra_body": {"deepen": {"prior": [0.5, 0.5, 0.5]}}}, None),
    "usage without a stream": ({"extra_body": {"stream_options": {"include_usage": True}}}, "stream_options"),
    "a tool without a choice": ({"tool_choice": "required"}, "tools"),
    "a schema that cannot be": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "strnig"}}}},
        "response_format",
    ),
    "tops without logprobs": ({"top_logprobs": 3}, "top_logprobs"),
    "an image": ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
                 "messages[0].content[0]"),
    "a role": ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0]"),
    "no messages": ({"messages": []}, "messages"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_done_is_refused_by_the_name_of_its_field(client, case):
    changes, param = BAD[case]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "deepen", "messages": MESSAGES, "max_tokens": 2, **changes})
    assert caught.value.body["param"] == param
    assert len(caught.value.body["message"]) > 15


@pytest.mark.parametrize("num_answers", [1, 2])
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("prompt", ["word " * 5000, "word " * 1100, [3] * 1100], ids=["long", "short", "tokens"])
def test_a_prompt_beyond_the_context_is_refused_with_the_numbers(client, is_stream, num_answers, prompt):
    with pytest.raises(openai.BadRequestError, match="context holds 1024") as caught:
        client.completions.create(model="deepen", prompt=prompt, stream=is_stream, n=num_answers)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "prompt"


def test_an_unknown_model_is_not_found_and_those_there_are_are_told(client):
    with pytest.raises(openai.NotFoundError, match="'deepen', 'llama', 'neox', 'qwen2'") as caught:
        client.completions.create(model="gpt-5", prompt=PROMPT)
    assert caught.value.code == "model_not_found"


def test_the_prompt_is_given_back_with_what_is_said_of_its_tokens(client, starter):
    ids = list(starter.members[0].vocabulary.encode_prompt(PROMPT + " Paris").ids)
    answer = client.completions.create(model="deepen", prompt=ids, max_tokens=0, echo=True, logprobs=1)
    told = answer.choices[0].logprobs
    assert answer.choices[0].text == PROMPT + " Paris"
    assert told.token_logprobs[0] is None and told.top_logprobs[0] is None
    assert len(told.tokens) == len(ids) and all(logprob < 0 for logprob in told.token_logprobs[1:])
    assert told.token_logprobs[-1] == max(told.top_logprobs[-1].values())


def test_what_an_earlier_request_had_read_is_told(client, server):
    text = "The quick brown fox jumps over the lazy dog, and the cat sat on the mat until the sun went down. " * 4
    for begins in (False, True):
        whole = client.completions.create(model="deepen", prompt=text, max_tokens=2, temperature=0)
        told = client.completions.create(
            model="deepen",
            prompt=text,
            max_tokens=2,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        answer = client.responses.create(model="deepen", input=text, max_output_tokens=2, temperature=0)
        usages = [whole.usage.prompt_tokens_details, [*told][-1].usage.prompt_tokens_details]
        cached = [usage.cached_tokens for usage in usages] + [answer.usage.input_tokens_details.cached_tokens]
        assert [num > 60 for num in cached] == [begins, True, begins]
    metrics = httpx.get(f"{server.address}/metrics").text
    hits = next(line for line in metrics.splitlines() if line.startswith("deepen_prefix_cache_hits_total{"))
    assert float(hits.split()[-1]) >= sum(cached)
