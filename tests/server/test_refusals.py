"""Every error of the library is told in OpenAI's form, with the status of whose fault it was."""

from __future__ import annotations

import json

import pytest

from deepen_llm import errors
from deepen_llm.config import SamplingParams
from deepen_llm.server.refusals import RefusedError, explain, naming

STATUS = {
    errors.ConfigError: 400,
    errors.GrammarError: 400,
    errors.PromptError: 400,
    errors.ContextLengthError: 400,
    errors.VocabularyError: 400,
    errors.MemberError: 500,
    errors.MemberTimeoutError: 504,
    errors.NumericalError: 500,
    errors.EngineError: 500,
    errors.CacheError: 500,
    errors.ClosedError: 503,
    errors.MissingDependencyError: 500,
}


def all_errors(kind=errors.DeepenError):
    return [one for sub in kind.__subclasses__() for one in (sub, *all_errors(sub))]


@pytest.mark.parametrize("kind", [kind for kind in all_errors() if kind.__module__ == errors.__name__])
def test_every_error_has_a_status_and_keeps_its_words(kind):
    refused = explain(kind("so it is"), "prompt")
    assert refused.status == STATUS[kind]
    assert refused.body["error"]["message"] == "so it is"
    assert refused.body["error"]["param"] == ("prompt" if refused.status == 400 else None)


def test_a_context_that_is_too_short_has_the_code_that_clients_know():
    assert explain(errors.ContextLengthError("too long"), "messages").code == "context_length_exceeded"


def test_a_setting_is_called_as_the_request_calls_it():
    names = {"max_new_tokens": "max_tokens"}
    with pytest.raises(RefusedError, match="max_tokens: Input should be greater") as caught, naming(None, names):
        SamplingParams(max_new_tokens=0)
    assert caught.value.param == "max_tokens"


def test_half_a_character_that_a_client_sent_can_be_quoted():
    body = RefusedError("got '\ud800'", param="\ud800").response.body
    assert json.loads(body)["error"]["param"] == "\ud800"


def test_messages_have_a_readable_length():
    assert len(RefusedError("x" * 100_000).body["error"]["message"]) <= 2000
