"""Whatever goes wrong in a member is an own error that names it; rows that are fine go on."""

from __future__ import annotations

import logging
import math

import pytest
import torch

from deepen_llm.errors import ClosedError, MemberError, MemberTimeoutError, NumericalError
from deepen_llm.members.base import Branch, Pending, Ready
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.testing import ScriptedMember

CALLS = {
    "open": lambda member: member.open(),
    "start_extend": lambda member: member.start_extend({0: [1]}).result(),
    "start_peek": lambda member: member.start_peek([Branch(0, 0, [1])]).result(),
    "measure": lambda member: member.measure([1, 2, 3]),
    "rollback": lambda member: member.rollback(0, 1),
    "release": lambda member: member.release(0),
}
DOING = {
    "open": "while a row was opened",
    "start_extend": "in a forward pass",
    "start_peek": "in a forward pass",
    "measure": "while it measured the prompt",
    "rollback": "while tokens were taken back",
    "release": "while a row was released",
}
PASSES = ("start_extend", "start_peek")


class Failing(Pending):
    """A forward pass that fails after its start."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def result(self) -> torch.Tensor:
        raise self._error


class FaultyMember(ScriptedMember):
    """In place of the method `faulty` it raises or returns `fault`."""

    faulty = ""
    fault: object = None

    def __getattribute__(self, name: str) -> object:
        own = super().__getattribute__
        return own("_fail") if name in CALLS and name == own("faulty") else own(name)

    def _fail(self, *given: object) -> object:
        if isinstance(self.fault, Exception):
            raise self.fault
        return self.fault


@pytest.fixture
def member(vocabularies):
    """A member that was fed one row, 0, without a fault."""
    member = FaultyMember(vocabularies["bpe"], ["the cat sat on the mat"])
    member.extend({member.open(): [5, 6]})
    return member


def make_logits(member, num_rows=1):
    return torch.zeros(num_rows, len(member.vocabulary))


@pytest.mark.parametrize("call", CALLS)
def test_an_exception_of_the_member_names_it_and_says_what_it_was_at_and_what_to_do(member, call, caplog):
    member.faulty, member.fault = call, ValueError("no such row")
    with pytest.raises(MemberError) as caught:
        CALLS[call](GuardedMember(member))
    assert str(caught.value) == (
        f"member 'bpe' failed {DOING[call]}: ValueError: no such row; the ensemble stays usable: try again, or leave "
        "it out"
    )
    assert caught.value.__cause__ is member.fault
    assert not isinstance(caught.value, TimeoutError)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert f"member 'bpe' failed {DOING[call]}" in caplog.text


@pytest.mark.parametrize("call", CALLS)
def test_a_member_that_gives_up_waiting_is_a_timeout(member, call):
    member.faulty, member.fault = call, TimeoutError("no answer in 3 s")
    with pytest.raises(MemberTimeoutError, match=f"'bpe' failed {DOING[call]}: TimeoutError: no answer in 3 s"):
        CALLS[call](GuardedMember(member))


@pytest.mark.parametrize("call", PASSES)
@pytest.mark.parametrize(("error", "own"), [(OSError("gone"), MemberError), (TimeoutError("late"), MemberTimeoutError)])
def test_what_fails_between_start_and_result_is_worded_as_what_fails_at_the_start(member, call, error, own):
    member.faulty, member.fault = call, Failing(error)
    with pytest.raises(own, match=f"^member 'bpe' failed in a forward pass: {type(error).__name__}: {error}; the ens"):
        CALLS[call](GuardedMember(member))


@pytest.mark.parametrize("start", [lambda m: m.start_extend({0: [1]}), lambda m: m.start_peek([Branch(0, 0, [1])])])
def test_a_start_raises_nothing(member, start):
    member.before_pass = lambda tokens: 1 / 0
    member.close()
    started = start(GuardedMember(member))
    with pytest.raises(MemberError, match="ClosedError: member 'bpe' is closed"):
        started.result()


def test_an_own_error_of_the_member_is_worded_like_any_other(member):
    member.faulty, member.fault = "open", ClosedError("it is closed")
    with pytest.raises(MemberError, match=r"^member 'bpe' failed while a row was opened: ClosedError: it is closed; "):
        GuardedMember(member).open()


@pytest.mark.parametrize("call", PASSES)
@pytest.mark.parametrize(
    ("started", "told"),
    [(None, "None"), ([], "a list"), (torch.zeros(1, 4), r"a float32 tensor of shape \(1, 4\)")],
)
def test_a_pass_that_is_not_started_as_pending_is_refused(member, call, started, told):
    member.faulty, member.fault = call, started
    with pytest.raises(MemberError, match=f"'bpe' failed in .*: it must start a forward pass as a Pending; got {told}"):
        CALLS[call](GuardedMember(member))


@pytest.mark.parametrize("call", PASSES)
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda right: None, "None"),
        (lambda right: right.tolist(), "a list"),
        (lambda right: right[:0], r"a float32 tensor of shape \(0, 603\)"),
        (lambda right: right.repeat(2, 1), r"a float32 tensor of shape \(2, 603\)"),
        (lambda right: right[:, :-1], r"a float32 tensor of shape \(1, 602\)"),
        (lambda right: right[0], r"a float32 tensor of shape \(603,\)"),
        (lambda right: right.long(), r"a int64 tensor of shape \(1, 603\)"),
    ],
    ids=["none", "list", "too few rows", "too many rows", "wrong width", "one dimension", "whole numbers"],
)
def test_what_is_no_tensor_of_logits_is_refused_with_what_was_due(member, call, make, told):
    width = len(member.vocabulary)
    member.faulty, member.fault = call, Ready(make(make_logits(member)))
    told = told.replace("603", str(width)).replace("602", str(width - 1))
    expected = rf"it must return logits of shape \(1, {width}\), one per token; got {told}; the ensemble"
    with pytest.raises(MemberError, match=expected):
        CALLS[call](GuardedMember(member))


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda row: row[3:4].fill_(math.nan), "NaN or infinity"),
        (lambda row: row[3:4].fill_(math.inf), "NaN or infinity"),
        (lambda row: row.fill_(math.nan), "NaN or infinity"),
        (lambda row: row.fill_(-math.inf), "only -infinity"),
    ],
    ids=["one NaN", "one infinity", "all NaN", "all ruled out"],
)
@pytest.mark.parametrize("call", PASSES)
def test_a_row_without_a_usable_number_has_an_error_and_the_rows_beside_it_go_on(member, call, spoil, what):
    logits = make_logits(member, 3)
    logits[2, 5:] = -math.inf  # ruling tokens out is no error
    spoil(logits[1])
    member.faulty, member.fault = call, Ready(logits)
    guarded = GuardedMember(member)
    branches = [Branch(0, 0, [1]), Branch(0, 1, [1]), Branch(0, 0, [2])]
    started = guarded.start_peek(branches) if call == "start_peek" else guarded.start_extend({0: [1], 1: [1], 2: [1]})
    result = started.result(lambda place: f"at step {place + 7}")
    assert result.tensor is logits
    assert list(result.errors) == [1]
    assert isinstance(result.errors[1], NumericalError)
    expected = f"{what} in the logits of 'bpe' at step 8: try another dtype, such as float32"
    assert str(result.errors[1]) == expected


def test_without_a_step_the_error_of_a_row_names_the_member_alone(member):
    member.faulty, member.fault = "start_extend", Ready(make_logits(member) + math.nan)
    errors = GuardedMember(member).start_extend({0: [1]}).result().errors
    assert str(errors[0]) == "NaN or infinity in the logits of 'bpe': try another dtype, such as float32"


@pytest.mark.parametrize("measured", [None, [0.0, 0.0], torch.zeros(3), torch.zeros(1, 2), torch.zeros(2).long()])
def test_what_is_no_log_probability_per_token_is_refused(member, measured):
    member.faulty, member.fault = "measure", measured
    with pytest.raises(MemberError, match="'bpe' failed while it measured the prompt: it must return 2 log-probabilit"):
        GuardedMember(member).measure([1, 2, 3])


@pytest.mark.parametrize(("number", "what"), [(math.nan, "NaN"), (math.inf, "infinity")])
def test_a_measure_that_is_no_number_is_a_numerical_error(member, number, what):
    member.faulty, member.fault = "measure", torch.tensor([-1.0, number])
    with pytest.raises(NumericalError, match=f"{what} in what 'bpe' makes of the prompt: try another dtype"):
        GuardedMember(member).measure([1, 2, 3])


def test_a_token_that_is_ruled_out_is_measured_as_that(member):
    member.faulty, member.fault = "measure", torch.tensor([-1.0, -math.inf], dtype=torch.float64)
    measured = GuardedMember(member).measure([1, 2, 3])
    assert measured.tolist() == [-1.0, -math.inf] and measured.dtype == torch.float32


def test_a_member_without_fault_is_handed_through(member):
    guarded = GuardedMember(member)
    assert (guarded.name, guarded.context_length, guarded.device) == ("bpe", 512, torch.device("cpu"))
    assert guarded.vocabulary is member.vocabulary and guarded.embeddings is member.embeddings
    row = guarded.open()
    logits = guarded.start_extend({row: [1, 2]}).result()
    assert torch.equal(logits.tensor, member.peek([Branch(row, 1, [2])])) and not logits.errors
    assert torch.equal(guarded.start_peek([Branch(row, 1, [2])]).result().tensor, logits.tensor)
    assert torch.equal(guarded.measure([1, 2, 3]), member.measure([1, 2, 3]))
    assert guarded.measure([]).shape == guarded.measure([1]).shape == (0,)
    guarded.rollback(row, 1)
    assert member.rows[row] == [1]
    guarded.release(row)
    assert row not in member.rows
