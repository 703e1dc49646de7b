"""What several streams get in one step wakes their loop once."""

from __future__ import annotations

import asyncio
import threading

from deepen_llm.requests.mailbox import Mailbox


async def test_what_is_posted_before_the_loop_comes_for_it_wakes_it_once_and_keeps_its_order(monkeypatch):
    loop, calls = asyncio.get_running_loop(), []
    call = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda act: calls.append(act) or call(act))
    mailbox, first, second = Mailbox.of_running_loop(), asyncio.Queue(), asyncio.Queue()
    assert Mailbox.of_running_loop() is mailbox

    def post(begin):
        for item in range(begin, begin + 50):
            mailbox.post(loop, first, item)
            mailbox.post(loop, second, -item)

    for begin in (0, 50):
        thread = threading.Thread(target=post, args=(begin,))
        thread.start()
        thread.join()
        assert len(calls) == 1 + begin // 50
        assert [await first.get() for _ in range(50)] == list(range(begin, begin + 50))
    assert [second.get_nowait() for _ in range(100)] == [-item for item in range(100)]


async def test_nothing_is_lost_between_many_threads():
    loop, mailbox, queue = asyncio.get_running_loop(), Mailbox.of_running_loop(), asyncio.Queue()
    threads = [
        threading.Thread(target=lambda: [mailbox.post(loop, queue, one) for one in range(2000)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    async with asyncio.timeout(20):
        got = [await queue.get() for _ in range(8000)]
    assert sorted(got) == sorted([*range(2000)] * 4)


def test_a_loop_that_is_closed_is_let_be():
    async def begin():
        return asyncio.get_running_loop(), Mailbox.of_running_loop()

    loop, mailbox = asyncio.run(begin())
    mailbox.post(loop, asyncio.Queue(), 1)
