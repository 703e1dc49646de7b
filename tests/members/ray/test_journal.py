"""What an actor was told, so that another one can be told the same."""

from __future__ import annotations

import pytest

from deepen_llm.members.base import Branch
from deepen_llm.members.ray.journal import Journal
from deepen_llm.members.ray.messages import Change

TOLD = object()


def fed(journal, row, ids):
    journal.settle(journal.begin({row: ids}), TOLD)


def test_changes_wait_for_the_next_pass_and_go_with_it_once():
    journal = Journal()
    row, other = journal.open(), journal.open()
    fed(journal, row, [1, 2, 3])
    journal.roll_back(row, 2)
    journal.release(other)
    assert journal.begin({row: [4]}).asked.changes == (Change(row, 2), Change(other, None))
    assert journal.begin({row: [5]}).asked.changes == ()


def test_nothing_taken_back_is_no_change():
    journal = Journal()
    journal.roll_back(journal.open(), 0)
    assert journal.take_changes() == ()


def test_rows_are_known_as_of_the_last_answer():
    journal = Journal()
    row, ended, new = journal.open(), journal.open(), journal.open()
    fed(journal, row, [1, 2, 3])
    fed(journal, ended, [7])
    journal.roll_back(row, 1)
    journal.release(ended)
    under_way = journal.begin({row: [4, 5], new: [9]})
    peek = journal.begin({}, branches=[Branch(row, 1, [6])], temperature=2.0)
    journal.roll_back(journal.open(), 0)
    assert journal.begin_anew() == {row: [1, 2]}
    assert under_way.asked.changes == () and under_way.asked.tokens == {row: (4, 5), new: (9,)}
    assert peek.asked.branches == (Branch(row, 1, (6,)),) and peek.asked.temperature == 2.0
    assert list(journal.unsettled) == [under_way, peek]
    journal.settle(under_way, TOLD)
    assert journal.begin_anew() == {row: [1, 2, 4, 5], new: [9]}


def test_changes_that_wait_are_not_told_to_an_actor_that_begins_with_them():
    journal = Journal()
    row = journal.open()
    fed(journal, row, [1, 2, 3])
    journal.roll_back(row, 1)
    assert journal.begin_anew() == {row: [1, 2]}
    assert journal.take_changes() == ()


def test_what_a_caller_does_to_its_list_later_is_not_seen():
    journal = Journal()
    row, ids = journal.open(), [1, 2]
    entry = journal.begin({row: ids})
    ids.append(3)
    assert entry.asked.tokens == {row: (1, 2)}


def test_rows_of_a_pass_that_failed_can_only_be_released():
    journal = Journal()
    row, other = journal.open(), journal.open()
    fed(journal, other, [5])
    journal.fail(journal.begin({row: [1]}), ValueError())
    assert journal.begin_anew() == {other: [5]}
    for use in (
        lambda: journal.begin({other: [1], row: [2]}),
        lambda: journal.begin({}, branches=[Branch(row, 0, [1])]),
        lambda: journal.roll_back(row, 1),
    ):
        with pytest.raises(RuntimeError, match="can only be released"):
            use()
    journal.release(row)
    assert not journal.unsettled and not journal.is_idle
    journal.release(other)
    assert journal.is_idle


def test_a_pass_whose_row_was_released_meanwhile_may_be_settled():
    journal = Journal()
    row, other = journal.open(), journal.open()
    entries = [journal.begin({row: [1]}), journal.begin({other: [1]})]
    journal.release(row)
    journal.release(other)
    journal.settle(entries[0], TOLD)
    journal.fail(entries[1], ValueError())
    assert journal.begin_anew() == {}


def test_without_an_actor_only_rows_that_were_never_fed_are_good():
    journal = Journal()
    row, new = journal.open(), journal.open()
    fed(journal, row, [1])
    journal.forget()
    assert journal.begin_anew() == {}
    journal.begin({new: [1]})
    with pytest.raises(RuntimeError, match="can only be released"):
        journal.begin({row: [1]})


def test_a_copy_holds_what_the_actor_was_told_and_another_actor_is_fed_it():
    journal = Journal()
    row = journal.open([9, 9])
    fed(journal, row, [1, 2, 3])
    new = journal.next_row()
    journal.fork(row, new, 1)
    fed(journal, new, [4])
    assert journal.begin_anew() == {row: [1, 2, 3], new: [1, 2, 4]}
    assert journal.sources == {row: (9, 9), new: (9, 9)}


def test_a_row_that_was_set_aside_is_not_fed_anew_and_keeps_nobody_waiting():
    journal = Journal()
    row, other = journal.open(), journal.open()
    fed(journal, row, [1, 2, 3])
    fed(journal, other, [4])
    journal.park(row)
    assert journal.begin_anew() == {other: [4]}
    journal.release(other)
    assert journal.is_idle
    journal.release(row)
    assert journal.is_idle and not journal.begin_anew()
