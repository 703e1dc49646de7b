"""Python's search for garbage while modules are imported."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import pytest

from deepen_llm import garbage
from deepen_llm.garbage import CollectionPause


@pytest.fixture
def pause(monkeypatch):
    monkeypatch.setattr(garbage, "MANY_OBJECTS", 0)
    yield CollectionPause()
    gc.enable()
    gc.unfreeze()


def make_objects():
    return [[] for _ in range(1000)]


def test_nothing_is_searched_within_and_it_is_as_before_afterwards(pause):
    with pause:
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    with pause:
        pass
    assert not gc.isenabled()


def test_an_error_within_ends_the_pause(pause):
    with pytest.raises(ImportError), pause:
        raise ImportError
    assert gc.isenabled()


def test_of_blocks_that_overlap_in_threads_the_last_one_puts_it_back(pause):
    entered, leave = threading.Event(), threading.Event()

    def overlap():
        with pause:
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=overlap)
    with pause:
        other.start()
        assert entered.wait(10)
    assert not gc.isenabled()
    leave.set()
    other.join()
    assert gc.isenabled()


def test_what_was_made_within_is_old_afterwards_and_can_still_be_searched(pause):
    with pause:
        made = make_objects()
    assert gc.get_freeze_count() == 0
    old = {id(one) for one in gc.get_objects(generation=2)}
    assert all(id(one) in old for one in made)


def test_what_somebody_froze_before_stays_frozen(pause):
    gc.freeze()
    before = gc.get_freeze_count()
    with pause:
        made = make_objects()
    young = {id(one) for one in gc.get_objects()}
    assert before - 100 < gc.get_freeze_count() <= before
    assert all(id(one) in young for one in made)


def test_a_program_of_its_own_keeps_what_it_imports(pause):
    pause.keep_all()
    with pause:
        made = make_objects()
    searched = {id(one) for one in gc.get_objects()}
    assert gc.get_freeze_count() > len(made)
    assert not any(id(one) in searched for one in made)


def test_few_objects_are_not_worth_the_trouble(monkeypatch):
    pause = CollectionPause()
    pause.keep_all()
    with pause:
        pass
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize(
    "statement",
    [
        "from deepen_llm import Ensemble",
        "from deepen_llm import MemberConfig; MemberConfig(model='nowhere').load()",
        pytest.param(
            "from deepen_llm import MemberConfig; MemberConfig(model='nowhere', kind='encoder-decoder').load()",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_heavy_imports_of_the_library_run_without_a_search(statement):
    """`sys.modules` says whether a search of old objects ran while transformers' modules came in."""
    code = (
        "import gc, sys\n"
        "from deepen_llm.errors import MemberError\n"
        "seen = set()\n"
        "gc.callbacks.append(lambda phase, info: seen.add(len(sys.modules)))\n"
        "before = len(sys.modules)\n"
        f"try:\n    {statement}\n"
        "except MemberError:\n    pass\n"
        "after = len(sys.modules)\n"
        "import deepen_llm.garbage\n"
        "within = [n for n in seen if before + 200 < n < after - 200]\n"
        "print(after - before > 900, within)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split("\n")[0] == "True []"
