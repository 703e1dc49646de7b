"""Whatever goes wrong in a member is an own error that names it, in one wording; rows that are fine go on."""

from __future__ import annotations

import logging
import math
import re
import weakref

import pytest
import torch

from deepen_llm.errors import MemberError, MemberTimeoutError, NumericalError
from deepen_llm.members.base import Branch, Fork, Pending, Ready
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.testing import ScriptedMember

STAYS_USABLE = "; the ensemble stays usable: try again, or leave it out"
RUNNING = "in a forward pass"


def wording(doing, what):
    """The one way in which a failure is said."""
    return "^" + re.escape(f"member 'bpe' failed {doing}: {what}{STAYS_USABLE}") + "$"


class Fails(Pending):
    def __init__(self, error):
        self._error = error

    def result(self):
        raise self._error


class Spoiled(ScriptedMember):
    """Returns what it is told to, or raises it."""

    told: object = None

    def start_extend(self, tokens, measured=None):
        return self._say()

    def start_peek(self, branches):
        return self._say()

    def open(self):
        return self._say()

    def rollback(self, row, num_tokens):
        self._say()

    def release(self, row):
        self._say()

    def _say(self):
        if isinstance(self.told, BaseException):
            raise self.told
        return self.told


@pytest.fixture
def spoiled(vocabularies):
    """A guarded member that says what it is told to."""

    def make(told):
        member = Spoiled(vocabularies["bpe"], [])
        member.told = told
        return GuardedMember(member)

    return make


STARTS = {
    "extend": lambda member: member.start_extend({0: [5], 1: [6, 7]}),
    "peek": lambda member: member.start_peek([Branch(0, 0, [5]), Branch(0, 1, [6])]),
}


@pytest.fixture(params=STARTS)
def start(request):
    """Begins a pass over two rows."""
    return STARTS[request.param]


@pytest.mark.parametrize("at_start", [True, False])
def test_whatever_is_raised_at_the_start_or_later_comes_out_of_the_result(spoiled, start, at_start, caplog):
    error = ValueError("no such row")
    with caplog.at_level(logging.ERROR):
        started = start(spoiled(error if at_start else Fails(error)))
        with pytest.raises(MemberError, match=wording(RUNNING, "ValueError: no such row")) as raised:
            started.result()
    assert raised.value.__cause__ is error
    assert not isinstance(raised.value, TimeoutError)
    assert [record.getMessage() for record in caplog.records] == ["member 'bpe' failed in a forward pass"]


@pytest.mark.parametrize("error", [SystemExit(1), GeneratorExit(), BaseException("a panic")])
@pytest.mark.parametrize("at_start", [True, False])
def test_what_would_end_a_thread_is_a_failure_like_any_other(spoiled, start, at_start, error):
    started = start(spoiled(error if at_start else Fails(error)))
    with pytest.raises(MemberError, match=type(error).__name__) as raised:
        started.result()
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("at_start", [True, False])
def test_a_timeout_stays_one(spoiled, start, at_start):
    error = TimeoutError("30 s are over")
    started = start(spoiled(error if at_start else Fails(error)))
    with pytest.raises(MemberTimeoutError, match=wording(RUNNING, "TimeoutError: 30 s are over")):
        started.result()


@pytest.mark.parametrize(
    ("told", "described"),
    [(None, "None"), ([0.5], "a list"), (torch.zeros(2, 4), "a float32 tensor of shape (2, 4)")],
)
def test_a_pass_that_is_not_started_as_one_is_refused(spoiled, start, told, described):
    started = start(spoiled(told))
    what = f"it must start a forward pass as a Pending; got {described}"
    with pytest.raises(MemberError, match=wording(RUNNING, what)):
        started.result()


@pytest.mark.parametrize(
    ("make", "described"),
    [
        (lambda width: None, "None"),
        (lambda width: [[0.0] * width] * 2, "a list"),
        (lambda width: torch.zeros(1, width), "a float32 tensor of shape (1, {width})"),
        (lambda width: torch.zeros(3, width), "a float32 tensor of shape (3, {width})"),
        (lambda width: torch.zeros(2, width - 1), "a float32 tensor of shape (2, {less})"),
        (lambda width: torch.zeros(width), "a float32 tensor of shape ({width},)"),
        (lambda width: torch.zeros(2, 1, width), "a float32 tensor of shape (2, 1, {width})"),
        (lambda width: torch.zeros(2, width, dtype=torch.long), "a int64 tensor of shape (2, {width})"),
        (lambda width: torch.zeros(2, width, dtype=torch.bool), "a bool tensor of shape (2, {width})"),
    ],
)
def test_a_result_that_is_not_the_logits_is_refused(spoiled, start, vocabularies, make, described):
    width = len(vocabularies["bpe"])
    started = start(spoiled(Ready(make(width))))
    described = described.format(width=width, less=width - 1)
    what = f"it must return logits of shape (2, {width}), one per token; got {described}"
    with pytest.raises(MemberError, match=wording(RUNNING, what)):
        started.result()


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda row: row.index_fill(0, torch.tensor([7]), math.nan), "NaN or infinity"),
        (lambda row: row.index_fill(0, torch.tensor([7]), math.inf), "NaN or infinity"),
        (lambda row: torch.full_like(row, -math.inf).index_fill(0, torch.tensor([7]), math.nan), "NaN or infinity"),
        (lambda row: torch.full_like(row, -math.inf), "only -infinity"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_row_that_cannot_be_used_is_named_with_its_step_and_the_others_go_on(
    spoiled, start, vocabularies, spoil, what, dtype
):
    logits = torch.zeros(2, len(vocabularies["bpe"]), dtype=dtype)
    logits[0, 3] = -math.inf  # a token that is ruled out is no fault
    logits[1] = spoil(logits[1])
    checked = start(spoiled(Ready(logits))).result(lambda place: f"at step {place + 4}")
    assert list(checked.errors) == [1]
    assert str(checked.errors[1]) == f"{what} in the logits of 'bpe' at step 5: try another dtype, such as float32"
    assert checked.tensor is logits


def test_without_a_place_only_the_member_is_named(spoiled, start, vocabularies):
    logits = torch.full((2, len(vocabularies["bpe"])), math.nan)
    errors = start(spoiled(Ready(logits))).result().errors
    assert set(errors) == {0, 1}
    for error in errors.values():
        assert isinstance(error, NumericalError)
        assert str(error) == "NaN or infinity in the logits of 'bpe': try another dtype, such as float32"


CALLS = {
    "while a row was opened": lambda member: member.open(),
    "while tokens were taken back": lambda member: member.rollback(0, 1),
    "while a row was released": lambda member: member.release(0),
}


@pytest.mark.parametrize("doing", CALLS)
def test_every_other_failure_is_said_in_the_same_words(spoiled, doing, caplog):
    with pytest.raises(MemberError, match=wording(doing, "OSError: gone")) as raised:
        CALLS[doing](spoiled(OSError("gone")))
    assert isinstance(raised.value.__cause__, OSError)
    assert [record.getMessage() for record in caplog.records] == [f"member 'bpe' failed {doing}"]
    with pytest.raises(MemberTimeoutError, match=wording(doing, "TimeoutError: late")):
        CALLS[doing](spoiled(TimeoutError("late")))


@pytest.mark.parametrize(("told", "described"), [(None, "None"), ("row", "a str")])
def test_a_row_without_a_handle_is_refused(spoiled, told, described):
    what = f"it must return the handle of a row, an int; got {described}"
    with pytest.raises(MemberError, match=wording("while a row was opened", what)):
        spoiled(told).open()


def pass_of_two(spoiled, vocabularies, measured, due):
    """A pass over the rows 0 and 1 with fine logits that says this of what was measured."""
    logits = torch.zeros(2, len(vocabularies["bpe"]))
    return spoiled(Ready(logits, measured)).start_extend({0: [5], 1: [6, 7, 8]}, due)


@pytest.mark.parametrize(
    ("told", "described"),
    [
        ([-0.5, -0.5], "a list"),
        (torch.zeros(3), "a float32 tensor of shape (3,)"),
        (torch.zeros(1), "a float32 tensor of shape (1,)"),
        (torch.zeros(1, 2), "a float32 tensor of shape (1, 2)"),
        (torch.zeros(2, dtype=torch.long), "a int64 tensor of shape (2,)"),
    ],
)
def test_what_is_not_the_measure_of_a_row_is_refused(spoiled, vocabularies, told, described):
    what = f"it must return 2 log-probabilities of a row; got {described}"
    with pytest.raises(MemberError, match=wording(RUNNING, what)):
        pass_of_two(spoiled, vocabularies, {1: told}, {1: 2}).result()


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.1])
def test_a_measure_that_is_no_log_probability_fails_its_row_only(spoiled, vocabularies, bad):
    measured = {1: torch.tensor([-0.5, bad]), 0: torch.tensor([-0.5])}
    checked = pass_of_two(spoiled, vocabularies, measured, {1: 2, 0: 1}).result(lambda place: f"at step {place}")
    assert list(checked.errors) == [1] and isinstance(checked.errors[1], NumericalError)
    message = "NaN or infinity in the logits of 'bpe' at step 1: try another dtype, such as float32"
    assert str(checked.errors[1]) == message
    assert checked.measured[0] == [-0.5]


def test_the_row_that_fails_is_found_by_its_place_and_not_by_its_handle(spoiled, vocabularies):
    logits = torch.zeros(2, len(vocabularies["bpe"]))
    started = spoiled(Ready(logits, {9: torch.tensor([math.nan])})).start_extend({12: [5], 9: [6, 7]}, {9: 1})
    assert list(started.result().errors) == [1]


def test_a_measure_may_come_in_any_precision_and_rule_tokens_out(spoiled, vocabularies):
    told = {1: torch.tensor([-0.5, -math.inf], dtype=torch.float16), 0: torch.tensor([5e-4])}
    checked = pass_of_two(spoiled, vocabularies, told, {1: 2, 0: 1}).result()
    assert not checked.errors
    assert checked.measured == {1: [-0.5, -math.inf], 0: [pytest.approx(5e-4)]}  # rounding is not an error


@pytest.mark.parametrize("told", [{}, {0: torch.zeros(4)}])
def test_a_member_that_does_not_measure_what_was_asked_is_no_error(spoiled, vocabularies, told):
    checked = pass_of_two(spoiled, vocabularies, told, {1: 2}).result()
    assert not checked.errors and checked.measured == {}


@pytest.mark.parametrize("due", [None, {}])
def test_where_nothing_was_asked_nothing_is_read(spoiled, vocabularies, due):
    checked = pass_of_two(spoiled, vocabularies, {1: "nonsense"}, due).result()
    assert not checked.errors and checked.measured == {}


def test_an_interrupt_of_the_main_thread_is_no_failure_of_the_member(spoiled, monkeypatch):
    member = spoiled(None)

    def interrupt(row):
        raise KeyboardInterrupt

    monkeypatch.setattr(member.member, "release", interrupt)
    with pytest.raises(KeyboardInterrupt):
        member.release(0)


def test_a_member_that_works_is_handed_through(vocabularies):
    scripted = ScriptedMember(vocabularies["bpe"], ["the cat sat."], context_length=99)
    member = GuardedMember(scripted)
    row, ids = member.open(), scripted.vocabulary.encode("the cat")
    checked = member.start_extend({row: ids}, {row: 1}).result()
    assert not checked.errors and checked.tensor.shape == (1, len(scripted.vocabulary))
    assert set(checked.measured) == {row} and scripted.measured == [ids[-1:]]
    peeked = member.start_peek([Branch(row, 1, ids[:1])]).result()
    assert torch.equal(peeked.tensor, scripted.peek([Branch(row, 1, ids[:1])]))
    member.rollback(row, 1)
    assert scripted.rows == {row: ids[:-1]}
    member.release(row)
    assert not scripted.rows
    assert (member.name, member.context_length, member.device.type) == ("bpe", 99, "cpu")
    assert member.num_parameters is None
    assert member.vocabulary is scripted.vocabulary and member.embeddings is scripted.embeddings


def test_logits_and_what_is_measured_are_those_of_a_member_whose_logits_are_divided(vocabularies):
    vocabulary, texts = vocabularies["bpe"], ["the cat sat."]
    divided, plain = ScriptedMember(vocabulary, texts), ScriptedMember(vocabulary, texts)
    divided.change = lambda text, logits: logits / 1.7
    ids, found = vocabulary.encode("the cat"), []
    for member in (GuardedMember(divided), GuardedMember(plain, 1.7)):
        row = member.open()
        fed = member.start_extend({row: ids}, {row: 1}).result()
        peeked = member.start_peek([Branch(row, 1, ids[:1])]).result()
        found.append((fed.tensor, torch.tensor(fed.measured[row]), peeked.tensor))
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_temperature_divides_in_float32_at_least_and_changes_nothing_in_place(vocabularies, dtype):
    scripted = ScriptedMember(vocabularies["bpe"], ["the cat sat."])
    given = torch.linspace(-5, 5, len(scripted.vocabulary), dtype=dtype)[None]
    given[0, 3] = -torch.inf
    before = given.clone()
    scripted.start_extend = lambda tokens, measured: Ready(given)
    tensor = GuardedMember(scripted, 3.0).start_extend({0: [5]}).result().tensor
    assert tensor.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.equal(tensor, before.to(tensor.dtype) / 3) and torch.equal(given, before)


def test_at_temperature_1_the_logits_are_the_very_ones_that_the_member_gave(vocabularies):
    scripted = ScriptedMember(vocabularies["bpe"], ["the cat sat."])
    given = torch.zeros(1, len(scripted.vocabulary))
    scripted.start_extend = lambda tokens, measured: Ready(given)  # is told of no temperature
    assert GuardedMember(scripted, 1.0).start_extend({0: [5]}, {}).result().tensor is given


def test_a_member_that_cannot_measure_at_a_temperature_need_not_tell(vocabularies):
    scripted = ScriptedMember(vocabularies["bpe"], ["the cat sat."])
    extend = scripted.start_extend
    scripted.start_extend = lambda tokens, measured, temperature: extend(tokens)
    member = GuardedMember(scripted, 2.0)
    assert member.start_extend({member.open(): [5, 6]}, {0: 1}).result().measured == {}


def test_an_error_that_is_kept_keeps_nothing_of_the_pass_that_failed(vocabularies, monkeypatch):
    member, seen = ScriptedMember(vocabularies["bpe"], []), []

    def fail(*_, **__):
        activations = torch.zeros(3)
        seen.append(weakref.ref(activations))
        raise MemoryError("no room")

    monkeypatch.setattr(member, "start_extend", fail)
    with pytest.raises(MemberError, match="no room") as kept:
        GuardedMember(member).start_extend({0: [5]}).result()
    assert isinstance(kept.value.__cause__, MemoryError) and seen[0]() is None


def test_what_is_raised_where_a_row_is_copied_or_set_aside_is_told(spoiled):
    member = spoiled(None).member
    with pytest.raises(MemberError, match=r"^member 'bpe' failed while a row was copied: TypeError: .* cannot begin"):
        GuardedMember(member).fork(0, 1)
    with pytest.raises(MemberError, match=r"^member 'bpe' failed while a row was set aside: TypeError: .* cannot set"):
        GuardedMember(member).park(0)


@pytest.mark.parametrize(
    ("told", "described"),
    [(7, "an? int"), ("row", "a str"), (Fork(3, 0), "a Fork"), ((3, 1), "a tuple")],
)
def test_a_copy_that_is_none_is_refused(spoiled, told, described):
    guarded = spoiled(told)
    guarded.member.fork = lambda row, num_back: told
    with pytest.raises(
        MemberError, match=f"must return a Fork that leaves out 1 tokens or more, or None; got {described}"
    ):
        guarded.fork(0, 1)


@pytest.mark.parametrize("told", [None, -1, 2.5, "many"])
def test_a_size_that_is_none_is_refused(spoiled, told):
    guarded = spoiled(told)
    guarded.member.park = lambda row: told
    with pytest.raises(MemberError, match="must return how many bytes a row takes, an int; got"):
        guarded.park(0)
