"""Users of a server for locust, which counts every answer but 200 and 429 as a failure, and cut streams.

Run beside `deepen serve`, from the project's root (locust is in a virtual environment of its own):

    locust -f tests/server/locustfile.py --headless -u 64 -r 32 -t 3m --host http://127.0.0.1:8000
"""

from __future__ import annotations

import time

from locust import HttpUser, between, events, task

STORY = {"prompt": "Once upon a time, there was", "max_tokens": 48, "ignore_eos": True}
CHAT = {"messages": [{"role": "user", "content": "What is 2 + 2?"}], "max_tokens": 32, "temperature": 0}


def note(name, seconds):
    """A time as a row of locust's table."""
    events.request.fire(
        request_type="TIME", name=name, response_time=1000 * seconds, response_length=0, exception=None, context={}
    )


class Reader(HttpUser):
    """Reads streams and whole answers, asks members alone, and now and then goes away in the middle of one."""

    wait_time = between(0, 1)

    @task(4)
    def stream(self):
        self._stream("stream", None)

    @task(1)
    def leave(self):
        self._stream("stream, left", 5)

    @task(2)
    def chat(self):
        self._ask("/v1/chat/completions", CHAT)

    @task(1)
    def several(self):
        self._ask("/v1/completions", {**STORY, "n": 2})

    @task(1)
    def member(self):
        self._ask("/v1/completions", {**STORY, "model": "neox", "max_tokens": 1, "logprobs": 5})

    def _ask(self, path, body):
        with self.client.post(path, json=body, catch_response=True) as answer:
            if answer.status_code == 429:
                answer.success()

    def _stream(self, name, most):
        body = {**STORY, "stream": True}
        begun_s = last_s = time.perf_counter()
        end, num = b"", 0
        with self.client.post("/v1/completions", json=body, stream=True, catch_response=True, name=name) as answer:
            if answer.status_code != 200:
                if answer.status_code == 429:
                    answer.success()
                return
            for data in answer.iter_content(None):
                now_s = time.perf_counter()
                note("between tokens" if num else "to the first token", now_s - (last_s if num else begun_s))
                last_s, num, end = now_s, num + 1, (end + data)[-100:]
                if num == most:
                    answer.close()
                    answer.success()
                    return
            if not end.rstrip().endswith(b"data: [DONE]"):
                answer.failure(f"cut off: {end!r}")
