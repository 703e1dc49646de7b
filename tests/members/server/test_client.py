"""What can go wrong between a client and a server: each is an own error that names the server, in time."""

from __future__ import annotations

import logging
import socket
import time

import pytest
from pydantic import SecretStr

from deepen_llm.errors import MemberError, MemberTimeoutError
from deepen_llm.members.server.client import Client, StatusError
from tests.members.server.doubles import Refusal, cut

KEY = "k3y-of-somebody"


@pytest.fixture(autouse=True)
def _short_pause(monkeypatch):
    monkeypatch.setattr("deepen_llm.members.server.client.PAUSE_S", 0.05)


@pytest.fixture
def double(serve):
    return serve("vllm")


@pytest.fixture
def connect():
    """Makes clients, which are closed with the test."""
    made = []

    def connect(address, key=None, timeout_s=10.0):
        made.append(Client("remote", address, key=key and SecretStr(key), timeout_s=timeout_s))
        return made[-1]

    yield connect
    for client in made:
        client.close()


def fail(double, times, refusal):
    """Have the next requests answered with a status of their own."""
    left = [refusal] * times

    def before(handler, path, body):
        if left:
            raise left.pop()
        return False

    double.before = before


def test_connections_are_kept(double, connect):
    client = connect(double.address)
    for _ in range(5):
        client.get("/v1/models")
    assert len(double._connections) == 1


def test_the_key_is_sent_as_a_bearer_token(double, connect):
    connect(double.address, KEY).get("/v1/models")
    assert double.headers["Authorization"] == f"Bearer {KEY}"


def test_nobody_listens(connect):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(MemberError, match=rf"'remote' at http://127.0.0.1:{port} .*nobody listens there: start"):
        connect(f"http://127.0.0.1:{port}").get("/v1/models")


def test_a_name_that_does_not_resolve_is_not_tried_twice(connect):
    begun = time.monotonic()
    with pytest.raises(MemberError, match=r"no address is known for the name 'nowhere.invalid'"):
        connect("http://nowhere.invalid:1").get("/v1/models")
    assert time.monotonic() - begun < 5


def test_no_tls_where_https_was_written(double, connect):
    with pytest.raises(MemberError, match=r"cannot be made safe .*SSL_CERT_FILE"):
        connect(double.address.replace("http:", "https:")).get("/v1/models")


@pytest.mark.parametrize(
    ("status", "hint"), [(400, "look at its log"), (404, "does not know this"), (500, "look at its log")]
)
def test_an_error_is_told_with_what_the_server_says_and_not_asked_again(double, connect, status, hint):
    fail(double, 1, Refusal(status, {"error": {"message": "so it\nis", "code": status}}))
    with pytest.raises(StatusError, match=rf"answered /v1/models with status {status} \(so it is\): .*{hint}") as told:
        connect(double.address).get("/v1/models")
    assert told.value.status == status and len(double.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_lacks_or_is_refused(double, connect, status):
    double.before = lambda handler, path, body: fail_with(Refusal(status, {"error": "no"}))
    with pytest.raises(StatusError, match=r"it wants a key: name the environment variable .* api_key_env"):
        connect(double.address).get("/v1/models")
    with pytest.raises(StatusError, match="it refuses the key that was sent"):
        connect(double.address, KEY).get("/v1/models")


def fail_with(refusal):
    raise refusal


def test_a_key_that_the_server_repeats_is_not_told(double, connect, caplog):
    double.before = lambda handler, path, body: fail_with(Refusal(503, {"error": {"message": f"bad key {KEY}!"}}))
    with caplog.at_level(logging.DEBUG), pytest.raises(StatusError) as told:
        connect(double.address, KEY).get("/v1/models")
    assert "bad key ***!" in str(told.value) and KEY not in str(told.value) + caplog.text


def test_redirects_are_not_followed(double, connect):
    to = "http://user:secret@evil.example/steal?key=1"
    double.before = lambda handler, path, body: fail_with(Refusal(307, {}, {"Location": to}))
    with pytest.raises(StatusError, match=r"redirects are not followed: give .* \(http://evil.example\)") as told:
        connect(double.address, KEY).get("/v1/models")
    assert "secret" not in str(told.value) and "key=1" not in str(told.value)
    assert len(double.requests) == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_once_more(double, connect, status, caplog):
    fail(double, 1, Refusal(status, {}))
    assert b"tiny/model" in connect(double.address).get("/v1/models")
    assert f"status {status}) and is asked again" in caplog.text
    fail(double, 2, Refusal(status, {}))
    with pytest.raises(StatusError, match=f"status {status}"):
        connect(double.address).get("/v1/models")


def test_a_server_that_says_how_long_to_wait_is_waited_for(double, connect):
    fail(double, 2, Refusal(429, {}, {"Retry-After": "1"}))
    begun = time.monotonic()
    assert connect(double.address).get("/v1/models")
    assert time.monotonic() - begun >= 2


def test_a_server_that_asks_for_no_wait_is_not_flooded(double, connect):
    double.before = lambda handler, path, body: fail_with(Refusal(429, {}, {"Retry-After": "0"}))
    with pytest.raises(StatusError, match="status 429"):
        connect(double.address, timeout_s=1).get("/v1/models")
    assert len(double.requests) <= 21, "one each 0.05 s"


@pytest.mark.parametrize("wait", ["30", "soon", "99999999999999"])
def test_nobody_waits_beyond_the_deadline(double, connect, wait):
    double.before = lambda handler, path, body: fail_with(Refusal(429, {}, {"Retry-After": wait}))
    begun = time.monotonic()
    with pytest.raises(StatusError, match=r"too much to do: ask it less at once \(max_batch_size\)"):
        connect(double.address, timeout_s=5).get("/v1/models")
    assert time.monotonic() - begun < 4


def test_a_slow_server_is_left_in_time(double, connect):
    double.before = lambda handler, path, body: bool(time.sleep(1.5))
    begun = time.monotonic()
    with pytest.raises(MemberTimeoutError, match=r"did not answer within 0.3 s: .*timeout_s"):
        connect(double.address, timeout_s=0.3).get("/v1/models")
    assert time.monotonic() - begun < 1.2


def test_a_server_that_drips_is_left_in_time(double, connect):
    def drip(handler, path, body):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(15):
            handler.wfile.write(b" ")
            time.sleep(0.1)
        return True

    double.before = drip
    begun = time.monotonic()
    with pytest.raises(MemberTimeoutError, match=r"within 0.4 s"):
        connect(double.address, timeout_s=0.4).get("/v1/models")
    assert time.monotonic() - begun < 1.2


def test_an_answer_without_end_is_left(double, connect):
    def flood(handler, path, body):
        handler.send_response(200)
        handler.send_header("Content-Length", "100000000")
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" " * 1_000_000)
        return True

    double.before = flood
    with pytest.raises(MemberError, match="must answer with 1,000,000 bytes at most"):
        connect(double.address).get("/v1/models", max_bytes=1_000_000)


def break_off(handler, path, body):
    """In the middle of an answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"data": [')
    handler.wfile.flush()
    cut(handler.connection)
    return True


def test_a_connection_that_is_cut_in_the_middle_is_made_once_more(double, connect):
    cuts = [break_off]
    double.before = lambda *request: bool(cuts and cuts.pop()(*request))
    assert b"tiny/model" in connect(double.address).get("/v1/models")
    double.before = break_off
    with pytest.raises(MemberError, match=r"the connection broke off \(.*\), twice"):
        connect(double.address).get("/v1/models")


def test_a_server_that_was_started_again_is_found(double, connect):
    client = connect(double.address)
    client.get("/v1/models")
    double.stop()
    double.start()
    assert b"tiny/model" in client.get("/v1/models")


def test_the_future_has_the_error(double, connect):
    fail(double, 1, Refusal(500, {}))
    assert isinstance(connect(double.address).start("/v1/completions", {}, 100).exception(5), StatusError)
