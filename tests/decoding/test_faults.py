"""Whatever a member does, its request ends with an own error or an answer, and the next one is answered rightly."""

from __future__ import annotations

import itertools
import math
import re
import time

import numpy as np
import pytest
import torch

from deepen_llm import Ensemble, EnsembleConfig, SamplingParams
from deepen_llm.errors import ClosedError, DeepenError, MemberError, MemberTimeoutError
from deepen_llm.members.base import Ready
from deepen_llm.testing import FaultyMember, ScriptedMember
from deepen_llm.testing.faulty import always, changing, once, raising, returning, waiting

pytestmark = pytest.mark.lengthy
TEXT = "The quick brown fox: naïve café, 今天."
BESIDE, ASKED = TEXT[:4], TEXT[:9]
KINDS = ("bpe", "sentencepiece")
PATIENCE_S = 10.0


class Panic(BaseException):
    """As libraries in Rust raise it past `except Exception`."""


RAISED = {
    "ValueError": ValueError("no"),
    "MemoryError": MemoryError("full"),
    "OSError": OSError(5, "gone"),
    "TimeoutError": TimeoutError("late"),
    "RecursionError": RecursionError("deep"),
    "StopIteration": StopIteration("over"),
    "an out-of-memory of torch": torch.OutOfMemoryError("CUDA out of memory"),
    "SystemExit": SystemExit(1),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "GeneratorExit": GeneratorExit(),
    "a panic": Panic("called `Option::unwrap()` on a `None` value"),
    "a closed member": ClosedError("closed"),
}
OPERATIONS = ("open", "start_extend", "start_peek", "result", "measured", "rollback", "release")
OF_ANY_MEMBER = ("open", "start_extend", "result", "release")
"""The main model is neither peeked into nor measured, and takes no token back."""
EVERYWHERE = ("ValueError", "StopIteration", "SystemExit", "a panic")
RAISING = {
    f"{operation} raises {name}": (operation, raising(error))
    for operation, (name, error) in itertools.product(OPERATIONS, RAISED.items())
    if name in EVERYWHERE or operation in ("open", "result", "release")
}
WRONG_LOGITS = {
    "NaN": lambda logits: torch.full_like(logits, math.nan),
    "one NaN": lambda logits: logits.index_fill(-1, torch.tensor([3]), math.nan),
    "infinity": lambda logits: torch.full_like(logits, math.inf),
    "one infinity": lambda logits: logits.index_fill(-1, torch.tensor([3]), math.inf),
    "only -infinity": lambda logits: torch.full_like(logits, -math.inf),
    "too few rows": lambda logits: logits[1:],
    "too many rows": lambda logits: torch.cat([logits, logits]),
    "transposed": lambda logits: logits.T,
    "one dimension": lambda logits: logits.flatten(),
    "three dimensions": lambda logits: logits[None],
    "one token too few": lambda logits: logits[:, 1:],
    "one token too many": lambda logits: torch.nn.functional.pad(logits, (0, 1)),
    "integers": lambda logits: logits.long(),
    "truth values": lambda logits: logits.bool(),
    "complex numbers": lambda logits: logits.to(torch.complex64),
    "numbers of 8 bits": lambda logits: logits.to(torch.float8_e4m3fn),
    "a sparse tensor": lambda logits: logits.to_sparse(),
    "on no device": lambda logits: logits.to("meta"),
    "None": lambda logits: None,
    "a list": lambda logits: logits.tolist(),
    "an array": lambda logits: np.asarray(logits),
    "text": lambda logits: "logits",
    "an error": lambda logits: ValueError("returned"),
    "no rows": lambda logits: logits[:0],
    "a tuple": lambda logits: (logits,),
}
HARMLESS_LOGITS = {
    "half precision": lambda logits: logits.half(),
    "bfloat16": lambda logits: logits.bfloat16(),
    "double precision": lambda logits: logits.double(),
    "with a gradient": lambda logits: logits.clone().requires_grad_(),
    "scattered in memory": lambda logits: logits.T.contiguous().T,
    "a view": lambda logits: torch.cat([logits, logits])[: len(logits)],
    "most ruled out": lambda logits: torch.where(logits == logits.amax(-1, keepdim=True), logits, -math.inf),
}
WRONG = {
    **{f"result gives {name}": ("result", changing(change)) for name, change in WRONG_LOGITS.items()},
    **{
        f"start_extend gives {name}": ("start_extend", returning(value))
        for name, value in {"None": None, "a list": [], "a tensor": torch.zeros(1, 3)}.items()
    },
    "start_extend gives a pass of nothing": ("start_extend", returning(Ready(torch.zeros(0, 0)))),
    **{
        f"open gives {name}": ("open", returning(value))
        for name, value in {"None": None, "text": "0", "a list": [], "a number": 0.0}.items()
    },
}
MEASURED = {
    "None": lambda measured: None,
    "a list": lambda measured: [],
    "lists": lambda measured: {row: logprobs.tolist() for row, logprobs in measured.items()},
    "too few": lambda measured: {row: logprobs[1:] for row, logprobs in measured.items()},
    "a matrix": lambda measured: {row: logprobs[None] for row, logprobs in measured.items()},
    "NaN": lambda measured: {row: logprobs * math.nan for row, logprobs in measured.items()},
    "more than certain": lambda measured: {row: -logprobs + 1 for row, logprobs in measured.items()},
    "integers": lambda measured: {row: logprobs.long() for row, logprobs in measured.items()},
    "other rows": lambda measured: {row + 100: logprobs for row, logprobs in measured.items()},
    "nothing": lambda measured: {},
}
WRONG |= {f"measured gives {name}": ("measured", changing(change)) for name, change in MEASURED.items()}
FAULTS = RAISING | WRONG
HARMLESS = {
    **{f"result gives {name}": ("result", changing(change)) for name, change in HARMLESS_LOGITS.items()},
    **{f"{operation} is slow": (operation, waiting(0.002)) for operation in OPERATIONS},
    "release gives something": ("release", changing(lambda _: "done")),
    "rollback gives something": ("rollback", changing(lambda _: 3)),
}


def on_either(faults):
    """Every fault with the member that it can happen to, the main model (0) or another (1)."""
    both = [(name, at) for name in faults for at in (0, 1)]
    happens = [(name, at) for name, at in both if at == 1 or faults[name][0] in OF_ANY_MEMBER]
    return [pytest.param(name, at, id=f"{name}-{('main', 'other')[at]}") for name, at in happens]


def make(vocabularies):
    """An ensemble of two members that can be told to fail."""
    members = [
        FaultyMember(ScriptedMember(vocabularies[kind], [TEXT], seed=at, confidence=6.0))
        for at, kind in enumerate(KINDS)
    ]
    return Ensemble(members, EnsembleConfig(members=KINDS, weights={"kind": "adaptive", "prior": (0.6, 0.4)}))


@pytest.fixture(scope="module")
def lasting(vocabularies):
    """One ensemble that all these faults happen to, one after the other."""
    with make(vocabularies) as made:
        yield made


@pytest.fixture
def ensemble(lasting):
    """It, its members sound and without rows."""
    for member in lasting.members:
        member.choose = lambda operation: None
        member.num_open = 0
    return lasting


@pytest.fixture
def members(ensemble):
    return ensemble.members


@pytest.fixture
def brief(vocabularies):
    """An ensemble of the test's own, which it may close."""
    with make(vocabularies) as made:
        yield made


def ask(ensemble, prompt=ASKED, **params):
    return ensemble.generate(prompt, SamplingParams(**{"timeout_s": PATIENCE_S, **params})).text


def wait_until_idle(ensemble):
    end = time.monotonic() + PATIENCE_S
    while ensemble.num_running and time.monotonic() < end:
        time.sleep(0.002)
    assert ensemble.num_running == 0


def check_next(ensemble, members):
    """The engine goes on, and leaves nothing behind of what failed."""
    for member in members:
        member.choose = lambda operation: None
    assert ask(ensemble) == TEXT[len(ASKED) :]
    wait_until_idle(ensemble)


def check_error(error, member):
    assert isinstance(error, DeepenError), f"{type(error).__name__}: {error}"
    assert not isinstance(error, MemberTimeoutError) or "its timeout of" not in str(error), "nobody answered"
    assert repr(member.name) in str(error)


def run_beside(ensemble, members, at, fault):
    """A request that runs already, one that the fault of a member may hit, and how each of them ends."""
    ends, hit = [], []

    def choose(operation):
        if (chosen := fault(operation)) is not None:
            hit.append(operation)
        return chosen

    with ensemble.stream(BESIDE, SamplingParams(timeout_s=PATIENCE_S)) as beside:
        pieces = [next(beside).text]
        members[at].choose = choose
        for finish in (lambda: ask(ensemble), lambda: "".join([*pieces, *(chunk.text for chunk in beside)])):
            try:
                ends.append(finish())
            except Exception as error:
                ends.append(error)
    assert hit, "the fault never came"
    return ends


@pytest.mark.parametrize(("name", "at"), on_either(FAULTS))
def test_a_fault_fails_its_requests_with_a_named_error_and_no_other(ensemble, members, name, at):
    ends = run_beside(ensemble, members, at, once(*FAULTS[name]))
    for end, prompt in zip(ends, (ASKED, BESIDE), strict=True):
        if isinstance(end, Exception):
            check_error(end, members[at])
        else:
            assert end == TEXT[len(prompt) :]
    if name.startswith(("open", "release")):  # no pass in which others run, too
        assert ends[1] == TEXT[len(BESIDE) :]
    check_next(ensemble, members)
    if not name.startswith("release"):
        assert [member.num_open for member in members] == [0, 0]


@pytest.mark.parametrize(("name", "at"), on_either(HARMLESS))
def test_what_does_no_harm_changes_no_answer(ensemble, members, name, at):
    ends = run_beside(ensemble, members, at, always(*HARMLESS[name]))
    assert ends == [TEXT[len(ASKED) :], TEXT[len(BESIDE) :]]
    check_next(ensemble, members)
    assert [member.num_open for member in members] == [0, 0]


@pytest.mark.parametrize("at", [0, 1], ids=["main", "other"])
@pytest.mark.parametrize("operation", ["open", "start_extend", "result"])
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), Panic("no")], ids=["error", "exit", "panic"])
def test_a_member_that_always_fails_fails_every_request_and_recovers(ensemble, members, operation, error, at):
    members[at].choose = always(operation, raising(error))
    for _ in range(3):
        with pytest.raises(MemberError, match=repr(members[at].name)):
            ask(ensemble)
    check_next(ensemble, members)


@pytest.mark.parametrize("at", [0, 1], ids=["main", "other"])
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), Panic("no")], ids=["error", "exit", "panic"])
def test_a_member_whose_rows_can_never_be_released_holds_up_nobody(ensemble, members, error, at):
    members[at].choose = always("release", raising(error))
    for _ in range(3):
        assert ask(ensemble) == TEXT[len(ASKED) :]
    wait_until_idle(ensemble)


@pytest.mark.parametrize("at", [0, 1], ids=["main", "other"])
@pytest.mark.parametrize("operation", ["open", "start_extend", "result"])
def test_a_member_that_hangs_holds_no_caller_beyond_its_timeout(ensemble, members, operation, at):
    members[at].choose = once(operation, waiting(0.5))
    begin = time.monotonic()
    with pytest.raises(MemberTimeoutError, match=r"timeout of 0\.1 s"):
        ask(ensemble, timeout_s=0.1)
    assert time.monotonic() - begin < 0.4
    check_next(ensemble, members)


@pytest.mark.parametrize("at", [0, 1], ids=["main", "other"])
def test_a_member_that_is_closed_while_it_runs_ends_every_request_with_an_error(brief, at):
    name = repr(brief.members[at].name)
    with brief.stream(ASKED, SamplingParams(timeout_s=PATIENCE_S)) as stream:
        next(stream)
        brief.members[at].close()
        with pytest.raises(DeepenError, match=name):
            list(stream)
    with pytest.raises(DeepenError, match=name):
        ask(brief)
    wait_until_idle(brief)


def test_a_handle_that_is_given_twice_ends_in_an_error_or_an_answer(ensemble, members):
    handles = []

    def choose(operation):
        """Every row gets the handle of the first one."""
        if operation != "open":
            return None
        return returning(handles[0]) if handles else changing(lambda row: handles.append(row) or row)

    for end in run_beside(ensemble, members, 1, choose):
        assert isinstance(end, (str, DeepenError))
    check_next(ensemble, members)


@pytest.mark.parametrize("num_kept", [0, 1], ids=["nothing", "too little"])
def test_a_rollback_that_lies_spoils_no_later_request(ensemble, members, num_kept):

    def lie(call):
        if num_kept:
            call()
            members[1].member.rows[max(members[1].member.rows)][-1:] = []

    members[1].choose = always("rollback", lie)
    try:
        ask(ensemble)
    except DeepenError as error:
        check_error(error, members[1])
    check_next(ensemble, members)


@pytest.mark.parametrize("at", [0, 1], ids=["main", "other"])
@pytest.mark.parametrize("change", [-1, 1])
def test_logits_that_are_not_one_a_token_are_refused_every_time(ensemble, members, change, at):
    members[at].choose = always("result", changing(lambda logits: torch.zeros(len(logits), logits.shape[1] + change)))
    for _ in range(2):
        with pytest.raises(MemberError, match=f"{members[at].name!r}.*must return logits of shape"):
            ask(ensemble)
    check_next(ensemble, members)


@pytest.mark.parametrize("at", [0, 1], ids=["main", "other"])
def test_a_context_that_is_shorter_than_a_member_says_is_the_members_error(ensemble, members, at):

    def refuse(call):
        if any(len(ids) > 10 for ids in members[at].member.rows.values()):
            raise IndexError("position 10 is out of range")
        return call()

    members[at].choose = always("start_extend", refuse)
    with pytest.raises(MemberError, match="position 10"):
        ask(ensemble)
    check_next(ensemble, members)


def test_an_ensemble_that_is_closed_ends_no_other_one_over_the_same_members_in_silence(brief):
    second = Ensemble(brief.members, brief.config)
    assert ask(second) == ask(brief)
    second.close()
    try:
        end = ask(brief)
    except DeepenError as error:
        end = error
    assert end == TEXT[len(ASKED) :] or re.search("closed", str(end))


def test_there_are_forty_kinds_of_faults():
    assert len(FAULTS | HARMLESS) >= 40
