"""Several engines over the same members step one after another."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from deepen_llm import Ensemble, SamplingParams
from deepen_llm.decoding.turns import Turns
from deepen_llm.members.borrowed import BorrowedMember
from deepen_llm.testing import ScriptedMember
from tests.test_ensemble import TEXTS


def test_a_turn_is_had_in_the_order_of_asking():
    turns, had = Turns(), []

    def take(number):
        with turns:
            had.append(number)

    threads = []
    with turns:
        for number in range(5):
            threads.append(threading.Thread(target=take, args=(number,)))
            threads[-1].start()
            while len(turns._waiting) <= number:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert had == list(range(5))


def test_who_takes_one_turn_after_another_lets_others_have_theirs():
    turns, had = Turns(), []
    ends = threading.Event()

    def take_all():
        while not ends.is_set():
            with turns:
                time.sleep(0.001)

    greedy = threading.Thread(target=take_all)
    greedy.start()
    begun_s = time.monotonic()
    for _ in range(20):
        with turns:
            had.append(1)
    ends.set()
    greedy.join()
    assert len(had) == 20 and time.monotonic() - begun_s < 2


def test_a_turn_that_fails_is_handed_on():
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns:
        raise ZeroDivisionError
    with turns:
        pass


def test_a_member_is_called_by_one_thread_at_a_time_though_two_ensembles_run(make_ensemble, monkeypatch):
    ensemble = make_ensemble(TEXTS)
    inside, most = [0], []
    extend = ScriptedMember.start_extend

    def watched(self, *arguments, **options):
        inside[0] += 1
        most.append(inside[0])
        time.sleep(0.001)
        try:
            return extend(self, *arguments, **options)
        finally:
            inside[0] -= 1

    monkeypatch.setattr(ScriptedMember, "start_extend", watched)
    params = SamplingParams(max_new_tokens=20, ignore_eos=True)
    with Ensemble([BorrowedMember(ensemble.members[0])], turns=ensemble.turns) as alone:
        due = ensemble.generate("The", params).text, alone.generate("The", params).text
        most.clear()
        with ThreadPoolExecutor(4) as pool:
            got = [pool.submit(one.generate, "The", params) for one in (ensemble, alone) * 4]
            texts = [future.result().text for future in got]
    assert texts == list(due) * 4
    assert max(most) == 1
