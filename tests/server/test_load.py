"""A server under load: rows are freed when nobody waits, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from contextlib import closing
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from deepen_llm import Ensemble
from deepen_llm.testing import FaultyMember, ScriptedMember
from deepen_llm.testing.faulty import once, raising
from tests.server.serving import serving, wait_until
from tests.test_ensemble import TEXTS

LONG = {"model": "deepen", "prompt": "The", "max_tokens": 400, "ignore_eos": True, "temperature": 0}


@pytest.fixture
def slow(make_ensemble, monkeypatch):
    """An ensemble whose steps take a while, so that answers are long under way."""
    ensemble = make_ensemble(TEXTS, max_batch_size=2)
    extend = ScriptedMember.start_extend

    def slowly(self, *arguments, **options):
        time.sleep(0.005)
        return extend(self, *arguments, **options)

    monkeypatch.setattr(ScriptedMember, "start_extend", slowly)
    return ensemble


def begin(server, body, path="/v1/completions"):
    """Send a request on a connection of one's own, and read nothing."""
    parts = urlsplit(server.address)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((parts.hostname, parts.port))
    data = json.dumps(body).encode()
    head = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
    ]
    connection.sendall("\r\n".join([*head, "", ""]).encode() + data)
    return connection


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_client_that_goes_away_frees_its_rows_at_once(slow, is_stream):
    with serving(slow) as server:
        connection = begin(server, {**LONG, "stream": is_stream})
        assert wait_until(lambda: slow.num_running == 1)
        connection.close()
        assert wait_until(lambda: slow.num_running == 0, 1.0)
        assert server.service.admission.num_taken == 0


def test_a_client_that_goes_away_while_it_waits_its_turn_is_forgotten(slow):
    with serving(slow) as server:
        running = [begin(server, LONG) for _ in range(2)]
        assert wait_until(lambda: slow.num_running == 2)
        waiting = begin(server, {**LONG, "stream": True})
        assert wait_until(lambda: slow.num_running == 3)
        waiting.close()
        assert wait_until(lambda: slow.num_running == 2, 1.0)
        for connection in running:
            connection.close()
        assert wait_until(lambda: server.service.admission.num_taken == 0)


def test_what_does_not_fit_into_the_queue_is_sent_away_for_a_while(slow):
    with serving(slow, max_waiting=1) as server:
        taken = [begin(server, LONG) for _ in range(3)]
        assert wait_until(lambda: slow.num_running == 3)
        answer = httpx.post(f"{server.address}/v1/completions", json=LONG)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert answer.json()["error"]["type"] == "rate_limit_error"
        metrics = httpx.get(f"{server.address}/metrics").text
        assert "deepen_num_requests_running 2.0" in metrics and "deepen_num_requests_waiting 1.0" in metrics
        for connection in taken:
            connection.close()
        assert wait_until(lambda: server.service.admission.num_taken == 0)
        assert httpx.post(f"{server.address}/v1/completions", json={**LONG, "max_tokens": 1}).status_code == 200


def test_more_answers_than_ever_fit_are_refused_for_good(slow):
    with serving(slow, max_waiting=1) as server:
        answer = httpx.post(f"{server.address}/v1/completions", json={**LONG, "n": 4, "temperature": 1})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")


@pytest.mark.parametrize("limit", [{"timeout_s": 0.2}, {}])
@pytest.mark.parametrize("is_stream", [False, True])
def test_an_answer_that_takes_too_long_ends_by_an_error(slow, limit, is_stream):
    asked = {**LONG, "stream": is_stream, "deepen": None if limit else {"timeout_s": 1.0}}
    with serving(slow, **limit) as server:
        answer = httpx.post(f"{server.address}/v1/completions", json=asked)
        assert f"within its timeout of {0.2 if limit else 1} s" in answer.text
        if not is_stream:
            assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
        else:
            assert answer.text.rstrip().endswith("data: [DONE]")
        assert wait_until(lambda: slow.num_running == 0, 1.0)


def test_a_reader_that_takes_nothing_holds_up_nobody_and_is_cut_off(make_ensemble, caplog):
    ensemble = make_ensemble(TEXTS, context_length=800)
    with serving(ensemble, send_timeout_s=0.5) as server:
        # With all of their traces the pieces are more than the buffers on the way hold.
        asked = {**LONG, "max_tokens": 600, "stream": True, "logprobs": 200, "deepen": {"trace": True}}
        with closing(begin(server, asked)):
            assert wait_until(lambda: ensemble.num_running == 1)
            begun_s = time.monotonic()
            assert httpx.post(f"{server.address}/v1/completions", json={**LONG, "max_tokens": 3}).status_code == 200
            assert time.monotonic() - begun_s < 5
            assert wait_until(lambda: server.service.admission.num_taken == 0, 20)
            assert wait_until(lambda: "its reader took nothing" in caplog.text)
            assert wait_until(lambda: ensemble.num_running == 0)


def test_a_server_that_is_asked_to_stop_lets_what_runs_end_and_takes_on_nothing_new(slow):
    with serving(slow) as server:
        texts = []

        def read():
            with openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as client:
                asked = {"model": "deepen", "prompt": "The", "max_tokens": 100, "stream": True}
                stream = client.completions.create(**asked, extra_body={"ignore_eos": True})
                texts.extend(piece.choices[0].finish_reason for piece in stream)

        reader = threading.Thread(target=read)
        reader.start()
        with httpx.Client(base_url=server.address) as client:
            assert client.get("/health").status_code == 200
            assert wait_until(lambda: slow.num_running == 1)
            server.service.admission.is_draining = True
            assert client.get("/health").status_code == 503
            assert client.post("/v1/completions", json=LONG).json()["error"]["code"] == "draining"
        server.handle_exit(15, None)
        reader.join(20)
    assert texts[-1] == "length"


def test_a_member_that_fails_is_named_and_the_server_goes_on(vocabularies):
    member = ScriptedMember(vocabularies["bpe"], TEXTS, context_length=512, seed=0)
    faulty = FaultyMember(member)
    with Ensemble([faulty]) as ensemble, serving(ensemble) as server:
        faulty.choose = once("result", raising(RuntimeError("out of order")))
        answer = httpx.post(f"{server.address}/v1/completions", json={**LONG, "max_tokens": 2})
        assert answer.status_code == 500
        assert "member 'bpe' failed" in answer.json()["error"]["message"]
        assert httpx.post(f"{server.address}/v1/completions", json={**LONG, "max_tokens": 2}).status_code == 200


async def test_a_member_that_breaks_under_load_is_named_to_those_it_served_and_the_rest_go_on(vocabularies):
    main, second = (
        ScriptedMember(vocabularies[kind], TEXTS, context_length=512, seed=0) for kind in ("bpe", "sentencepiece")
    )
    faulty = FaultyMember(second)
    body = {"prompt": "The", "max_tokens": 100, "ignore_eos": True, "temperature": 0, "stream": True}
    with Ensemble([main, faulty]) as ensemble, serving(ensemble) as server:
        async with httpx.AsyncClient(base_url=server.address, timeout=60) as client:

            async def ask(model):
                async with client.stream("POST", "/v1/completions", json={**body, "model": model}) as answer:
                    lines = [line async for line in answer.aiter_lines() if line]
                    return answer.status_code, lines

            broken = [asyncio.create_task(ask("deepen")) for _ in range(8)]
            rest = [asyncio.create_task(ask("bpe")) for _ in range(8)]
            async with asyncio.timeout(20):
                while server.service.models.num_running < 16:
                    await asyncio.sleep(0.001)
            faulty.choose = lambda operation: raising(ConnectionError("gone")) if operation == "result" else None
            told = await asyncio.gather(*broken)
            assert all("member 'sentencepiece' failed" in " ".join(lines) for _, lines in told)
            assert all(lines[-1] == "data: [DONE]" for status, lines in told if status == 200)
            whole = await asyncio.gather(*rest)
            assert all('"length"' in lines[-2] and lines[-1] == "data: [DONE]" for _, lines in whole)
            faulty.choose = lambda operation: None
            assert '"length"' in (await ask("deepen"))[1][-2]
        assert wait_until(lambda: server.service.models.num_running == server.service.admission.num_taken == 0)
        assert faulty.num_open == 0
