"""Rows in llama.cpp's cache: more branches than sequences, full caches, and states that go forwards only."""

from __future__ import annotations

import pytest
import torch

from deepen_llm import MemberConfig
from deepen_llm.errors import MemberError
from deepen_llm.members.base import Branch
from deepen_llm.members.gguf import batch
from deepen_llm.members.gguf.model import NUM_SCRATCH


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def load(path, **options):
    return MemberConfig(
        model=path, **{"cache_type": "f32", "flash_attention": False, "context": 200, "cache_tokens": 1024, **options}
    ).load()


def close(left, right):
    torch.testing.assert_close(left, right, atol=1e-3, rtol=1e-3)


def test_more_branches_than_scratch_sequences_go_in_portions(tiny):
    member = load(tiny)
    row = member.open()
    member.extend({row: [5, 6, 7]})
    branches = [Branch(row, number % 3, [10 + number, 11]) for number in range(2 * NUM_SCRATCH + 3)]
    together = member.peek(branches)
    for place in (0, NUM_SCRATCH - 1, NUM_SCRATCH, len(branches) - 1):
        close(together[place], member.peek([branches[place]])[0])
    assert member.num_cached == 3


def test_a_prompt_longer_than_a_batch_goes_in_portions_and_is_measured(tiny, monkeypatch):
    ids = [5 + place * 7 % 500 for place in range(150)]
    whole = load(tiny)
    started = whole.start_extend({whole.open(): ids}, {0: 140}, temperature=2.0)
    expected, measured = started.result(), started.measured[0]
    monkeypatch.setattr(batch, "BATCH_TOKENS", 64)
    monkeypatch.setattr(batch, "MAX_OUTPUTS", 10)
    portions = load(tiny)
    again = portions.start_extend({portions.open(): ids}, {0: 140}, temperature=2.0)
    close(again.result(), expected)
    close(again.measured[0], measured)
    row = portions.open()
    logits = portions.extend({row: ids[:100]})[0]
    close(measured[100 - 10 - 0], (logits / 2).log_softmax(-1)[ids[100]])


def test_a_full_cache_fails_what_no_longer_fits_and_nothing_else(tiny):
    member = load(tiny, context=200, cache_tokens=256)
    first, second = member.open(), member.open()
    member.extend({first: [5] * 200})
    with pytest.raises(MemberError, match=r"holds 256 tokens of all answers together, and has no room for 100 more"):
        member.extend({second: [6] * 100})
    member.release(second)
    logits = member.extend({first: [7]})[0]
    beside = load(tiny)
    close(logits, beside.extend({beside.open(): [*[5] * 200, 7]})[0])
    member.release(first)
    assert member.extend({member.open(): [6] * 200}).shape == (1, len(member.vocabulary))


def test_a_peek_for_which_there_is_no_room_leaves_the_rows_as_they_were(tiny):
    member = load(tiny, cache_tokens=256)
    row = member.open()
    member.extend({row: [5] * 200})
    for _ in range(3):
        with pytest.raises(MemberError, match="has no room for"):
            member.peek([Branch(row, 0, [6] * 10)] * 10)
    assert member.peek([Branch(row, 0, [6] * 40)]).isfinite().all()


def test_more_rows_than_were_asked_for_are_refused(tiny):
    member = load(tiny, rows=2)
    rows = [member.open() for _ in range(3)]
    member.extend({rows[0]: [5], rows[1]: [6]})
    with pytest.raises(MemberError, match=r"at most 2 answers run at the same time: raise MemberConfig\(rows=...\)"):
        member.extend({rows[2]: [7]})
    member.release(rows[0])
    assert member.extend({rows[2]: [7]}).shape == (1, len(member.vocabulary))


def test_a_state_that_goes_forwards_only_is_made_anew_when_it_is_next_needed(mamba):
    member = load(mamba)
    row, other = member.open(), member.open()
    member.extend({row: [5, 6, 7, 8], other: [9, 10]})
    member.rollback(row, 2)
    assert member._rows._rows[row].num_cached == 0 and member._rows._rows[other].num_cached == 2
    peeked = member.peek([Branch(row, 1, [12])])[0]
    close(peeked, member.extend({member.open(): [5, 12]})[0])
    close(member.extend({row: [11]})[0], member.extend({member.open(): [5, 6, 11]})[0])
    assert member.cache_bytes_per_token is None


def test_a_parked_row_leaves_its_room_to_others(tiny):
    member = load(tiny, context=200, cache_tokens=256, rows=1)
    ids = [5 + place * 7 % 500 for place in range(200)]
    row = member.open()
    member.extend({row: ids})
    num_bytes = member.park(row)
    assert num_bytes >= 200 * member.cache_bytes_per_token and member.num_cached == 0
    other = member.open()
    member.extend({other: [6] * 200})
    assert member.fork(row, 10) is None  # there is no other sequence
    member.release(other)
    fork = member.fork(row, 10)
    beside = load(tiny)
    close(member.extend({fork.row: [7]})[0], beside.extend({beside.open(): [*ids[:190], 7]})[0])


def test_where_the_cache_has_no_room_for_a_parked_row_the_new_one_begins_empty(tiny):
    member = load(tiny, context=200, cache_tokens=256)
    row, other = member.open(), member.open()
    member.extend({row: [5] * 100})
    member.park(row)
    member.extend({other: [6] * 200})
    assert member.fork(row, 0) is None
    logits = member.extend({other: [7]})[0]
    beside = load(tiny)
    close(logits, beside.extend({beside.open(): [*[6] * 200, 7]})[0])
    member.release(other)
    assert member.fork(row, 0).num_back == 0


def test_a_fork_of_a_row_that_runs_takes_no_cells_of_its_own(tiny):
    member = load(tiny, context=200, cache_tokens=256)
    row = member.open()
    member.extend({row: [5] * 200})
    forks = [member.fork(row, 0).row for _ in range(3)]
    logits = member.extend({one: [7 + place] for place, one in enumerate(forks)})
    beside = load(tiny)
    for place, one in enumerate(logits):
        close(one, beside.extend({beside.open(): [*[5] * 200, 7 + place]})[0])
