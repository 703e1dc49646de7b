from __future__ import annotations

import asyncio
import json
import time

import pytest
from pydantic import ValidationError

from deepen_llm import Ensemble
from deepen_llm.server.page.question import PageQuestion, answer_question
from deepen_llm.server.refusals import RefusedError
from deepen_llm.testing import ScriptedMember
from deepen_llm.vocabulary import Vocabulary
from tests import toy_tokenizers

STORY = "the cat sat on the mat.\n<b>the</b> dog ran home."


@pytest.fixture
def plain():
    """Two members without chat templates, so that a message is gone on with as it is."""
    tokenizers = {"bpe": toy_tokenizers.byte_level_bpe(template=None), "other": toy_tokenizers.unigram(template=None)}
    members = [
        ScriptedMember(Vocabulary.from_tokenizer(tokenizer, name=name), [STORY])
        for name, tokenizer in tokenizers.items()
    ]
    with Ensemble(members) as ensemble:
        yield ensemble


def ask(**changes):
    values = {"messages": [{"role": "user", "content": "the cat sat"}], "max_tokens": 64, **changes}
    return PageQuestion.model_validate(values)


async def collect(ensemble, question):
    params = question.make_params(None, 60.0)
    return [event async for event in answer_question(ensemble, question, params)]


async def test_the_pieces_are_markup_of_every_token_and_join_to_the_answer(plain, read_page):
    *tokens, end = await collect(plain, ask(number=3))
    assert {event["kind"] for event in tokens} == {"tokens"} and end["kind"] == "end"
    assert "".join(event["text"] for event in tokens) == STORY.removeprefix("the cat sat")
    page = read_page("".join(event["html"] for event in tokens))
    assert len(page.find("token")) == end["num_tokens"]
    assert {one["id"].partition("step")[0] for one in page.find("token")} == {"a3-"}
    num_bold = sum(name == "b" for name, _ in page.elements)
    assert num_bold == end["num_tokens"], "one in each panel: what a model writes is text"


async def test_the_end_tells_the_weights_and_why(plain):
    end = (await collect(plain, ask(max_tokens=2, prior=[1.0, 0.0])))[-1]
    assert end["finish_reason"] == "length" and end["num_tokens"] == 2
    assert end["weights"] == {"bpe": 1.0, "other": 0.0}
    assert end["seconds"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prior": [0.5, 0.6]}, "must sum to 1"),
        ({"prior": [1.0]}, "2 members, got 1 weights"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, "context holds"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "must be valid Unicode text"),
    ],
)
async def test_what_cannot_be_answered_is_refused_with_the_reason(make_ensemble, changes, message):
    with pytest.raises(RefusedError) as refused:
        await collect(make_ensemble([STORY]), ask(**changes))
    assert refused.value.status == 400
    assert message in json.dumps(refused.value.body)


def test_a_server_limits_how_much_is_asked_for():
    assert ask(max_tokens=500).make_params(64, 9.0).max_new_tokens == 64
    assert ask(max_tokens=5).make_params(64, 9.0).max_new_tokens == 5
    assert ask(max_tokens=500).make_params(None, 9.0).timeout_s == 9.0


async def test_a_reader_who_goes_away_ends_the_work(plain):
    question = ask(max_tokens=64)
    events = answer_question(plain, question, question.make_params(None, 60.0))
    await anext(events)
    await events.aclose()
    end = time.monotonic() + 5
    while plain.num_running and time.monotonic() < end:
        await asyncio.sleep(0.01)
    assert plain.num_running == 0


@pytest.mark.parametrize(
    "values",
    [
        {"messages": []},
        {"messages": [{"role": "robot", "content": "hm"}]},
        {"messages": [{"role": "user", "content": "hm", "name": "x"}]},
        {"max_tokens": 0},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"unknown": 1},
    ],
)
def test_questions_of_another_form_are_refused(values):
    with pytest.raises(ValidationError):
        ask(**values)
