"""Whatever a client sends, the server answers, and never that it is the server's own fault."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepen_llm.server.chat_request import ChatRequest
from deepen_llm.server.completion_request import CompletionRequest
from deepen_llm.server.responses_request import ResponsesRequest

FITTING = {
    "model": st.sampled_from(["deepen", "neox", "gpt", ""]),
    "prompt": st.one_of(st.text(max_size=20), st.lists(st.integers(-1, 3000), max_size=4)),
    "messages": st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "system", "assistant", "tool", "x"]), "content": st.text(max_size=9)}
        ),
        max_size=3,
    ),
    "input": st.text(max_size=20),
    "max_tokens": st.integers(-1, 3),
    "max_completion_tokens": st.integers(-1, 3),
    "max_output_tokens": st.integers(-1, 3),
    "n": st.integers(-1, 3),
    "logprobs": st.one_of(st.booleans(), st.integers(-1, 5)),
    "stream": st.booleans(),
    "stream_options": st.fixed_dictionaries({"include_usage": st.booleans()}),
    "echo": st.booleans(),
    "stop": st.one_of(st.text(max_size=3), st.lists(st.text(max_size=3), max_size=5)),
    "response_format": st.fixed_dictionaries({"type": st.sampled_from(["text", "json_object", "json_schema"])}),
    "tool_choice": st.sampled_from(["auto", "none", "required", "x"]),
    "deepen": st.fixed_dictionaries({"trace": st.booleans()}),
}
"""Values that might be meant; all else is anything."""
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KINDS = {
    "/v1/completions": (CompletionRequest, ("prompt", "max_tokens")),
    "/v1/chat/completions": (ChatRequest, ("messages", "max_tokens")),
    "/v1/responses": (ResponsesRequest, ("input", "max_output_tokens")),
}


@pytest.mark.parametrize("path", KINDS)
def test_no_body_is_the_servers_fault(path, server):
    kind, needed = KINDS[path]
    others = sorted(set(kind.model_fields) - set(needed))

    with httpx.Client(base_url=server.address, timeout=60) as client:

        @settings(
            max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(st.data())
        def check(data):
            names = [*needed, *data.draw(st.lists(st.sampled_from(others), max_size=4, unique=True))]
            body = {
                name: data.draw(FITTING[name] if name in FITTING and data.draw(st.integers(0, 5)) else ANY)
                for name in names
            }
            answer = client.post(path, json=body)
            assert answer.status_code < 500, (body, answer.text)
            if answer.status_code != 200:
                assert answer.json()["error"]["message"]

        check()
