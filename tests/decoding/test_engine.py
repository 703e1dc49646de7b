"""The loop around the steps."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from deepen_llm.decoding.engine import Engine
from deepen_llm.errors import ClosedError, EngineError, MemberError, MemberTimeoutError
from deepen_llm.vocabulary.words import split_words
from deepen_llm.weighting.base import FixedWeighting, Weighting, Weights
from tests.decoding.steps import STORY, make_members, make_sequence, make_stepper


@pytest.fixture
def make_engine(vocabularies):
    made = []

    def make(weighting=None, max_batch_size=8, **fusion):
        members = make_members(vocabularies)
        made.append(Engine(make_stepper(members, **fusion), weighting or FixedWeighting((0.5, 0.5)), max_batch_size))
        return made[-1], members

    yield make
    for engine in made:
        engine.close()


def begin(members, prompt=STORY[:9], **params):
    return make_sequence(members, prompt, begins=False, **params)


class Learned(Weights):
    """Remembers the words that it was told, and leaves everything to the main model after three."""

    def __init__(self, words=()):
        self.words = words

    @property
    def current(self):
        return (0.5, 0.5) if len(self.words) < 3 else (1.0, 0.0)

    def after_word(self, given):
        return Learned((*self.words, tuple(given)))

    def after_prompt(self, words):
        return Learned(tuple(word.logprobs for word in words)[:1])


class Learning(Weighting):
    def __init__(self, *, reads_prompt=False):
        self.reads_prompt = reads_prompt

    def begin(self):
        return Learned()


def test_sequences_are_answered_and_their_rows_freed(make_engine):
    engine, members = make_engine()
    sequences = [begin(members, STORY[:cut]) for cut in (9, 15, 20)]
    for sequence in sequences:
        engine.submit(sequence)
    assert [sequence.future.result(10).text for sequence in sequences] == [STORY[cut:] for cut in (9, 15, 20)]
    assert engine.num_running == 0 and not any(member.rows for member in members)


def test_no_more_sequences_run_at_a_time_than_the_batch_holds(make_engine):
    engine, members = make_engine(max_batch_size=2)
    sequences = [begin(members, STORY[:cut]) for cut in (9, 12, 15, 18, 20)]
    for sequence in sequences:
        engine.submit(sequence)
    for sequence in sequences:
        sequence.future.result(10)
    assert max(len(tokens) for tokens in members[0].passes) <= 2


def test_weights_are_told_what_every_member_gave_each_word(make_engine):
    engine, members = make_engine(Learning(), method="text")
    sequence = begin(members)
    engine.submit(sequence)
    generation = sequence.future.result(10)
    words = sequence.word.weights.words
    answer = b"".join(members[0].vocabulary.tokens[token_id] or b"" for token_id in generation.token_ids).decode()
    assert 3 < len(words) <= len(split_words(answer))
    assert all(len(given) == 2 and 0 < min(given) <= max(given) <= 1 for given in words)
    assert generation.fusion.weights == (1.0, 0.0)


@pytest.mark.parametrize("reads_prompt", [True, False])
def test_weights_begin_with_what_the_members_gave_the_prompt_where_they_are_to_read_it(make_engine, reads_prompt):
    engine, members = make_engine(Learning(reads_prompt=reads_prompt), method="text")
    sequence = begin(members, STORY[:15], max_new_tokens=1)
    engine.submit(sequence)
    sequence.future.result(10)
    words = sequence.word.weights.words
    assert len(words) == reads_prompt
    assert all(len(given) == 2 and max(given) < 0 for given in words)


def test_weights_that_fail_to_begin_fail_their_request_only(make_engine):
    class Failing(Learning):
        def __init__(self):
            self.num_begun = 0

        def begin(self):
            self.num_begun += 1
            if self.num_begun == 1:
                raise MemberError("no weights for the first request")
            return Learned()

    engine, members = make_engine(Failing())
    bad, good = begin(members, STORY[:30]), begin(members, STORY[:5])
    engine.submit(bad)
    engine.submit(good)
    with pytest.raises(MemberError, match="for the first request"):
        bad.future.result(10)
    assert good.future.result(10).text == STORY[5:]
    assert not bad.has_begun


def test_a_sequence_whose_own_code_raises_leaves_the_others_be(make_engine, caplog):
    engine, members = make_engine()
    bad, good = begin(members), begin(members, STORY[:15])
    bad.choose = lambda logprobs, best: 1 / 0
    engine.submit(bad)
    engine.submit(good)
    with pytest.raises(EngineError, match="failed by ZeroDivisionError: division by zero; it goes on") as raised:
        bad.future.result(10)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    assert good.future.result(10).text == STORY[15:]
    assert "a sequence failed" in caplog.text


class Panic(BaseException):
    """As foreign libraries raise it: past `except Exception`."""


ENDS = [SystemExit, KeyboardInterrupt, Panic, GeneratorExit, MemoryError, StopIteration]


def throw(error):
    raise error


@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("place", ["choose", "accept", "accept_forced", "result", "restrict", "resolve"])
def test_nothing_that_a_sequence_raises_ends_the_engine(make_engine, kind, place):
    error = kind()
    engine, members = make_engine()
    bad, good = begin(members), begin(members, STORY[:15])
    setattr(bad, place, lambda *_: throw(error))
    engine.submit(bad)
    engine.submit(good)
    with pytest.raises(EngineError, match=kind.__name__) as raised:
        bad.future.result(10)
    assert raised.value.__cause__ is error
    assert good.future.result(10).text == STORY[15:]
    assert not any(member.rows for member in members)


@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("call", ["open", "start_extend", "start_peek", "rollback", "release"])
@pytest.mark.parametrize("broken", [0, 1])
def test_nothing_that_a_member_raises_ends_the_engine(make_engine, kind, call, broken):
    error = kind()
    engine, members = make_engine()
    good = getattr(members[broken], call)
    setattr(members[broken], call, lambda *args, **_: throw(error))
    sequence = begin(members)
    engine.submit(sequence)
    own = sequence.future.exception(10)
    assert own is None or (isinstance(own, MemberError) and own.__cause__ is error)
    if own is None:  # the call was not needed, or nothing is lost by its failure
        assert sequence.future.result().text == STORY[9:]
    setattr(members[broken], call, good)
    again = begin(members)
    engine.submit(again)
    assert again.future.result(10).text == STORY[9:]


def test_a_step_that_fails_as_a_whole_fails_what_is_in_it_by_a_named_error(make_engine):
    engine, members = make_engine()
    run = engine._stepper.run
    engine._stepper.run = lambda sequences: throw(Panic("everything"))
    sequences = [begin(members), begin(members, STORY[:15])]
    for sequence in sequences:
        engine.submit(sequence)
    for sequence in sequences:
        with pytest.raises(EngineError, match="failed by Panic: everything"):
            sequence.future.result(10)
    engine._stepper.run = run
    again = begin(members)
    engine.submit(again)
    assert again.future.result(10).text == STORY[9:]


def test_where_the_thread_must_end_all_requests_fail_and_nothing_more_is_taken(make_engine):
    engine, members = make_engine(max_batch_size=1)
    running, waiting = begin(members), begin(members)
    started = threading.Event()
    engine._stepper.run = lambda _: (started.set(), threading.Event().wait(0.05), throw(MemoryError()))
    running.release = lambda: throw(MemoryError("not even this"))
    engine.submit(running)
    started.wait(10)
    engine.submit(waiting)
    with pytest.raises(EngineError, match="MemoryError"):
        running.future.result(10)
    with pytest.raises(ClosedError, match="engine ended by MemoryError: not even this: make a new ensemble"):
        waiting.future.result(10)
    with pytest.raises(ClosedError, match="engine ended by MemoryError"):
        engine.submit(begin(members))
    assert engine.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_is_told_at_once_that_it_has_no_engine(make_engine):
    engine, members = make_engine()
    with engine._wake:  # as the parent's thread may hold it while the process forks
        child = os.fork()
    if not child:
        status = 1
        try:
            engine.submit(begin(members))
        except ClosedError as error:
            status = 0 if "forked" in str(error) and engine.close() else 2
        finally:
            os._exit(status)
    for _ in range(100):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        threading.Event().wait(0.05)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended and os.waitstatus_to_exitcode(status) == 0
    sequence = begin(members)
    engine.submit(sequence)
    assert sequence.future.result(10).text == STORY[9:]


def test_forbidden_tokens_are_never_chosen(make_engine):
    engine, members = make_engine()
    sequence = begin(members, max_new_tokens=40, ignore_eos=True)
    engine.submit(sequence)
    generation = sequence.future.result(10)
    assert len(generation.token_ids) == 40
    assert not set(generation.token_ids) & set(members[0].vocabulary.eos_ids)


def test_a_deadline_ends_a_sequence_that_nobody_reads(make_engine):
    engine, members = make_engine()
    members[0].before_pass = lambda tokens: threading.Event().wait(0.05)
    sequence = begin(members, timeout_s=0.12, max_new_tokens=1000, ignore_eos=True)
    engine.submit(sequence)
    with pytest.raises(MemberTimeoutError):
        sequence.future.result(10)


def test_closing_fails_what_runs_and_what_waits_and_takes_nothing_more(make_engine):
    engine, members = make_engine(max_batch_size=1)
    started = threading.Event()
    members[0].before_pass = lambda tokens: (started.set(), threading.Event().wait(0.05))
    sequences = [begin(members, max_new_tokens=1000, ignore_eos=True) for _ in range(2)]
    for sequence in sequences:
        engine.submit(sequence)
    started.wait(10)
    assert engine.close() and engine.close()
    for sequence in sequences:
        with pytest.raises(ClosedError, match="before the answer was done"):
            sequence.future.result(10)
    with pytest.raises(ClosedError, match="make a new one"):
        engine.submit(begin(members))


def test_a_member_whose_rows_cannot_be_released_holds_up_nobody(make_engine, caplog):
    engine, members = make_engine()

    def fail(row):
        raise OSError("gone")

    members[0].release = fail
    for cut in (9, 15):
        sequence = begin(members, STORY[:cut])
        engine.submit(sequence)
        assert sequence.future.result(10).text == STORY[cut:]
    assert "'bpe' failed while a row was released" in caplog.text
    assert not members[1].rows
