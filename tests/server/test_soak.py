"""A server under everything at once, for minutes. Not part of the default run."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

import httpx
import psutil
import pytest

pytestmark = pytest.mark.slow

NUM_USERS, SECONDS = 64, 60
STORY = {"prompt": "Once", "max_tokens": 30, "ignore_eos": True}
CHAT = {"messages": [{"role": "user", "content": "What is 2 + 2?"}], "max_tokens": 20, "temperature": 0}
BODIES = {
    "several": ("/v1/completions", {**STORY, "n": 2}),
    "chat": ("/v1/chat/completions", CHAT),
    "response": ("/v1/responses", {"input": "hi", "max_output_tokens": 10}),
    "member": ("/v1/completions", {"model": "neox", "prompt": [5, 6, 7], "max_tokens": 1, "logprobs": 20}),
    "stream": ("/v1/completions", {**STORY, "stream": True}),
    "bad": ("/v1/completions", {"prompt": 3}),
    "gone": ("/v1/completions", {**STORY, "max_tokens": 300}),
}


async def use(client, number, end_s, statuses):
    """One user, who now and then goes away before there is an answer."""
    chance = random.Random(number)
    while time.monotonic() < end_s:
        kind = chance.choice(list(BODIES))
        path, body = BODIES[kind]
        patience_s = chance.random() if kind == "gone" else None
        try:
            answer = await asyncio.wait_for(client.post(path, json=body), patience_s)
        except TimeoutError:
            continue
        is_whole = not body.get("stream") or answer.status_code != 200 or answer.text.rstrip().endswith("[DONE]")
        statuses[answer.status_code if is_whole else "a stream that was cut"] += 1
        await asyncio.sleep(chance.random())


async def test_many_users_get_answers_or_are_sent_away_and_nothing_is_left(server):
    statuses: Counter = Counter()
    process = psutil.Process()
    begun_s = time.monotonic()
    async with httpx.AsyncClient(
        base_url=server.address, timeout=120, limits=httpx.Limits(max_connections=128)
    ) as client:
        users = [asyncio.create_task(use(client, one, begun_s + SECONDS, statuses)) for one in range(NUM_USERS)]
        await asyncio.sleep(SECONDS / 2)
        half = process.memory_info().rss
        await asyncio.gather(*users)
    assert set(statuses) <= {200, 400, 429} and statuses[200] > 100
    for _ in range(100):
        await asyncio.sleep(0.1)
        if not server.service.admission.num_taken:
            break
    assert (server.service.admission.num_taken, server.service.models.num_running) == (0, 0)
    assert process.memory_info().rss < half * 1.2
