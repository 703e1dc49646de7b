"""What answers at an address: servers that can be members are known, others are refused by name."""

from __future__ import annotations

import pytest

from deepen_llm.errors import MemberError
from tests.members.server.doubles import DOUBLES, MODEL


@pytest.mark.parametrize("kind", list(DOUBLES))
def test_a_server_is_known_by_what_it_says(kind, serve, load):
    assert load(serve(kind)).identity["dialect"] == kind


@pytest.mark.parametrize(
    ("owner", "reason"),
    [
        ("library", "Ollama tells tokens as text.*path/to/file.gguf"),
        ("openai", "OpenAI tells no token ids"),
        ("system", "OpenAI tells no token ids"),
        ("organization_owner", "LM Studio tells no token ids"),
    ],
)
@pytest.mark.parametrize("models", [["one"], ["one", "two"]])
def test_servers_that_tell_no_ids_are_refused_by_name(owner, reason, models, serve, load):
    double = serve("vllm")
    double.owned_by, double.models = owner, models
    with pytest.raises(MemberError, match=f"'remote' at .* cannot be a member: {reason}"):
        load(double)


def test_openai_is_refused_before_anything_is_sent(load):
    class Elsewhere:
        address = "https://api.openai.com/v1"

    with pytest.raises(MemberError, match="cannot be a member: OpenAI tells no token ids"):
        load(Elsewhere, api_key="k3y")


def test_text_generation_inference_is_refused_by_name(serve, load):
    double = serve("vllm")
    double.owned_by = MODEL
    double.answer = lambda path, body: {"/info": {"model_id": MODEL, "router": "text-generation-router"}}[path]
    with pytest.raises(MemberError, match=r"Text Generation Inference takes no token ids.*vLLM, SGLang or"):
        load(double)


def test_a_server_that_does_not_say_what_it_is_must_be_named(serve, load):
    double = serve("sglang")
    double.owned_by = "my company"
    with pytest.raises(MemberError, match=r"does not say what kind.*dialect= \('llama-server', 'sglang', 'vllm'"):
        load(double)
    assert load(double, dialect="sglang").identity["dialect"] == "sglang"


@pytest.mark.parametrize("answer", [b"<html>hello</html>", b"{}", b'{"data": 1}', b"", b'{"data": [{"id": '])
def test_what_is_no_server_of_models_is_refused(answer, serve, load):
    double = serve("vllm")
    double.change = lambda path, _: answer
    with pytest.raises(MemberError, match="must list its models at /v1/models; it answered"):
        load(double)


def test_a_server_without_a_list_of_models_is_refused(serve, load):
    from tests.members.server.doubles import Refusal

    double = serve("vllm")

    def before(handler, path, body):
        raise Refusal(404, {})

    double.before = before
    with pytest.raises(MemberError, match="does not say what kind of server it is"):
        load(double)


def test_one_of_several_models_is_named(serve, load):
    double = serve("vllm")
    double.models = ["one", "two"]
    with pytest.raises(MemberError, match=r"has 2 models \('one', 'two'\): name one with server_model"):
        load(double)
    member = load(double, server_model="two")
    member.extend({member.open(): [5]})
    assert member.identity["model"] == double.requests[-1][1]["model"] == "two"


def test_another_model_than_the_one_named_is_refused(serve, load):
    with pytest.raises(MemberError, match="has no model 'other'; it has 'tiny/model'"):
        load(serve("vllm"), server_model="other")


def test_llama_server_knows_its_model_by_another_name(serve, load):
    assert load(serve("llama-server"), server_model=f"alias-of-{MODEL}").identity["model"] == MODEL


def test_another_dialect_than_the_servers_is_refused(serve, load):
    with pytest.raises(MemberError, match="answered /props with status 404"):
        load(serve("vllm"), dialect="llama-server")
