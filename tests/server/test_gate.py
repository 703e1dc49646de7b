"""What a request must have before anything looks at it."""

from __future__ import annotations

import hmac
import json
import logging
import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest

from deepen_llm.errors import ConfigError
from deepen_llm.server.settings import ServerSettings
from tests.server.serving import serving
from tests.test_ensemble import TEXTS

KEY = "sk-very-secret-0123"
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def serve(make_ensemble):
    ensemble = make_ensemble(TEXTS)
    return lambda **settings: serving(ensemble, **settings)


def ask(server, **headers):
    return httpx.post(f"{server.address}/v1/completions", json={"prompt": "The", "max_tokens": 1}, headers={**headers})


@pytest.mark.parametrize("given", ["", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer é"])
def test_without_a_key_of_the_server_nothing_is_answered_but_whether_it_is_well(serve, given):
    with serve(api_keys=("other", KEY)) as server:
        answer = ask(server, Authorization=given.encode("latin-1"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert httpx.get(f"{server.address}/metrics").status_code == 401
        assert httpx.get(f"{server.address}/openapi.json").status_code == 401
        assert httpx.get(f"{server.address}/health").status_code == 200


def test_each_key_lets_a_request_in(serve):
    with serve(api_keys=("other", KEY)) as server:
        assert ask(server, Authorization=f"Bearer {KEY}").status_code == 200
        assert ask(server, Authorization="bearer other").status_code == 200


def test_every_key_is_compared_in_constant_time(serve, monkeypatch):
    compared = []
    monkeypatch.setattr(hmac, "compare_digest", lambda *pair: compared.append(pair) or pair[0] == pair[1])
    with serve(api_keys=("first", "second", "third")) as server:
        assert ask(server, Authorization="Bearer first").status_code == 200
    assert len(compared) == 3
    assert {len(one) for pair in compared for one in pair} == {32}


def test_keys_are_in_no_log_and_no_repr(serve, caplog):
    caplog.set_level(logging.DEBUG)
    settings = ServerSettings(api_keys=(KEY,))
    with serve(api_keys=(KEY,)) as server:
        ask(server, Authorization=f"Bearer {KEY}")
        wrong = ask(server, Authorization="Bearer sk-mistyped-0123")
    assert KEY not in caplog.text + repr(settings) + str(settings.model_dump()) + settings.model_dump_json()
    assert "sk-mistyped-0123" not in caplog.text + wrong.text


@pytest.mark.parametrize("key", ["", "two words", "tab\t", "snow☃"])
def test_a_key_that_no_client_can_send_is_refused(key):
    with pytest.raises(ConfigError, match="printable ASCII") as caught:
        ServerSettings(api_keys=("fine", key))
    assert "fine" not in str(caught.value)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "localhost.evil.example", "[", ""])
def test_a_server_on_loopback_answers_to_its_own_names_only(serve, host):
    with serve() as server:
        assert ask(server, Host=host).status_code in (400, 403)
        assert ask(server, Host="localhost:1234").status_code == 200


def test_other_names_can_be_allowed(serve):
    with serve(allowed_hosts=("models.example",)) as server:
        assert ask(server, Host="models.example:80").status_code == 200
        assert ask(server, Host="localhost").json()["error"]["code"] == "host_not_allowed"


def test_scripts_of_other_pages_get_nothing_unless_that_is_asked_for(serve):
    asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    with serve() as server:
        assert "access-control-allow-origin" not in ask(server, Origin="https://page.example").headers
    with serve(cors_origins=("https://page.example",), api_keys=(KEY,)) as server:
        preflight = httpx.options(f"{server.address}/v1/completions", headers=asked)
        assert preflight.headers["access-control-allow-origin"] == "https://page.example"
        answer = ask(server, Origin="https://page.example", Authorization=f"Bearer {KEY}")
        assert answer.headers["access-control-allow-origin"] == "https://page.example"
        assert "access-control-allow-origin" not in ask(server, Origin="https://evil.example").headers


def test_a_page_cannot_send_a_body_without_asking_first(serve):
    """A form or a script may send plain text to anybody; JSON it may not."""
    body = json.dumps({"prompt": "The", "max_tokens": 1})
    with serve() as server:
        answer = httpx.post(f"{server.address}/v1/completions", content=body, headers={"Content-Type": "text/plain"})
        assert answer.status_code == 400
        assert "application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(serve, is_chunked):
    body = b'{"prompt": "' + b"a" * 5000 + b'"}'

    def pieces():
        for begin in range(0, len(body), 1000):
            yield body[begin : begin + 1000]

    with serve(max_body_bytes=2000) as server:
        answer = httpx.post(f"{server.address}/v1/completions", content=pieces() if is_chunked else body, headers=JSON)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


def test_a_request_that_never_comes_whole_is_given_up(serve):
    with serve(body_timeout_s=0.3) as server:
        parts = urlsplit(server.address)
        with socket.create_connection((parts.hostname, parts.port), 10) as connection:
            head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
            connection.sendall(f"{head}Content-Type: application/json\r\n\r\n{{".encode())
            begun_s = time.monotonic()
            assert b" 408 " in connection.recv(4096)
            assert time.monotonic() - begun_s < 5
        assert ask(server).status_code == 200


BODIES = {
    "nothing": b"",
    "no JSON": b"{'a': 1}",
    "cut": b'{"prompt": "a',
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "not UTF-8": b'{"prompt": "\xff"}',
    "half a character": b'{"prompt": "\\ud800", "max_tokens": 1}',
    "half a character as a name": b'{"prompt": "a", "\\ud800": 1}',
    "NaN": b'{"prompt": "a", "temperature": NaN}',
    "a huge number": b'{"prompt": "a", "max_tokens": 1' + b"0" * 5000 + b"}",
    "a number for a text": b'{"prompt": 1}',
    "mixed prompts": b'{"prompt": ["a", 1]}',
    "no prompt": b"{}",
    "no tokens": b'{"prompt": []}',
    "tokens there are none of": b'{"prompt": [1, 100000]}',
    "an echo of tokens there are none of": b'{"prompt": [1, 100000], "echo": true}',
    "an echo of no tokens": b'{"prompt": [[]], "echo": true, "max_tokens": 0}',
    "negative tokens": b'{"prompt": [-1]}',
    "an empty list of tokens": b'{"prompt": [[]]}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/responses", "/tokenize"])
def test_a_body_that_cannot_be_read_is_a_bad_request_and_says_why(serve_once, body, path):
    answer = httpx.post(f"{serve_once.address}{path}", content=body, headers=JSON)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["type"] == "invalid_request_error" and len(error["message"]) > 10
    assert len(error["message"]) < 3000


@pytest.fixture(scope="module")
def serve_once(starter):
    with serving(starter) as server:
        yield server


def test_many_messages_are_refused_for_what_they_take(serve_once):
    messages = [{"role": "user", "content": "x"}] * 20_000
    begun_s = time.monotonic()
    answer = httpx.post(f"{serve_once.address}/v1/chat/completions", json={"messages": messages}, timeout=60)
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert time.monotonic() - begun_s < 30


@pytest.mark.parametrize("message", ["{}", '{"role":"user","content":"x"}'])
def test_a_million_messages_are_refused_and_hold_up_nobody_for_long(serve_once, message):
    body = '{"messages": [' + ",".join([message] * 1_000_000) + "]}"
    begun_s = time.monotonic()
    answer = httpx.post(f"{serve_once.address}/v1/chat/completions", content=body, headers=JSON, timeout=60)
    assert answer.status_code in (400, 413) and len(answer.json()["error"]["message"]) < 3000
    assert httpx.get(f"{serve_once.address}/health", timeout=60).status_code == 200
    assert time.monotonic() - begun_s < 30
