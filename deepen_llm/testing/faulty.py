"""A member that fails when it is told to: to test what stands on an ensemble, and what it does when a model breaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn, final

import torch
from torch import Tensor

from deepen_llm.members.base import Branch, Fork, Member, Pending
from deepen_llm.members.source import SourceReader

Operation = Literal["open", "start_extend", "start_peek", "result", "measured", "rollback", "fork", "park", "release"]
"""What a member is asked for, and can fail at; "result" and "measured" are those of a pass of either kind."""
Fault = Callable[[Callable[[], Any]], Any]
"""Given the call as it should have been, does in its place whatever it likes."""


@final
class FaultyMember(Member):
    """Another member, at each of whose operations something may go wrong.

    `choose` is called with every operation and gives the fault, or None for the member's own doing:

        member = FaultyMember(TransformersMember.load(config))
        ensemble = Ensemble([main, member])
        member.choose = once("result", raising(MemoryError("no room")))

    It may be called from the engine's thread only, and `num_open` read from any. Closing it closes the other.
    """

    def __init__(self, member: Member, choose: Callable[[Operation], Fault | None] | None = None) -> None:
        """Wrap a member; without `choose`, nothing goes wrong until it is set."""
        self.member = member
        """The member itself."""
        self.name, self.vocabulary, self.context_length = member.name, member.vocabulary, member.context_length
        self.choose: Callable[[Operation], Fault | None] = choose or _choose_none
        self.num_open = 0
        """Rows of the member that were opened and neither released nor set aside."""
        self._parked: set[int] = set()

    @property
    def kind(self) -> str:
        """The member's."""
        return self.member.kind

    @property
    def embeddings(self) -> Tensor | None:
        """The member's."""
        return self.member.embeddings

    @property
    def device(self) -> torch.device:
        """The member's."""
        return self.member.device

    @property
    def weight_bytes(self) -> int:
        """The member's."""
        return self.member.weight_bytes

    @property
    def shared_weight_bytes(self) -> int:
        """The member's."""
        return self.member.shared_weight_bytes

    @property
    def computes_beside(self) -> bool:
        """The member's."""
        return self.member.computes_beside

    @property
    def num_parameters(self) -> int | None:
        """The member's."""
        return self.member.num_parameters

    @property
    def cache_bytes_per_token(self) -> int | None:
        """The member's."""
        return self.member.cache_bytes_per_token

    @property
    def can_fork(self) -> bool:
        """The member's."""
        return self.member.can_fork

    @property
    def identity(self) -> Mapping[str, object]:
        """The member's."""
        return self.member.identity

    @property
    def source_reader(self) -> SourceReader | None:
        """The member's."""
        return self.member.source_reader

    def open(self) -> int:
        """Begin an empty row."""
        row: int = self._do("open", lambda: self._open(self.member.open))
        return row

    def open_over(self, source_ids: Sequence[int]) -> int:
        """Begin an empty row over a source: an `open` as well."""
        row: int = self._do("open", lambda: self._open(lambda: self.member.open_over(source_ids)))
        return row

    def start_extend(
        self,
        tokens: Mapping[int, Sequence[int]],
        measured: Mapping[int, int] | None = None,
        *,
        temperature: float = 1.0,
    ) -> Pending:
        """Begin to feed each row its new tokens."""
        return self._start("start_extend", lambda: self.member.start_extend(tokens, measured, temperature=temperature))

    @property
    def tells_each(self) -> bool:
        """Whether the member does."""
        return self.member.tells_each

    @property
    def token_cost(self) -> float:
        """The member's."""
        return self.member.token_cost

    def start_extend_each(self, tokens: Mapping[int, Sequence[int]], num_told: Mapping[int, int]) -> Pending:
        """Begin to feed each row its new tokens: a `start_extend` as well."""
        return self._start("start_extend", lambda: self.member.start_extend_each(tokens, num_told))

    def start_peek(self, branches: Sequence[Branch]) -> Pending:
        """Begin to compute what would come after other tokens."""
        return self._start("start_peek", lambda: self.member.start_peek(branches))

    def rollback(self, row: int, num_tokens: int) -> None:
        """Forget the last tokens of a row."""
        self._do("rollback", lambda: self.member.rollback(row, num_tokens))

    def fork(self, row: int, num_back: int) -> Fork | None:
        """Begin a row with the tokens of another."""
        fork: Fork | None = self._do("fork", lambda: self._fork(row, num_back))
        return fork

    def park(self, row: int) -> int:
        """Set a row aside: it does not count as open any more."""
        num_bytes: int = self._do("park", lambda: self._park(row))
        return num_bytes

    def release(self, row: int) -> None:
        """End a row."""
        self._do("release", lambda: self._release(row))

    def close(self) -> None:
        """Close the member itself."""
        self.member.close()

    def _open(self, open_row: Callable[[], int]) -> int:
        row = open_row()
        self.num_open += 1
        return row

    def _fork(self, row: int, num_back: int) -> Fork | None:
        fork = self.member.fork(row, num_back)
        self.num_open += fork is not None
        return fork

    def _park(self, row: int) -> int:
        num_bytes = self.member.park(row)
        self._parked.add(row)
        self.num_open -= 1
        return num_bytes

    def _release(self, row: int) -> None:
        self.member.release(row)
        self.num_open -= row not in self._parked
        self._parked.discard(row)

    def _start(self, operation: Operation, call: Callable[[], Pending]) -> Pending:
        started = self._do(operation, call)
        return _FaultyPass(started, self._do) if isinstance(started, Pending) else started

    def _do(self, operation: Operation, call: Callable[[], Any]) -> Any:
        """The call, or the fault that was chosen in its place."""
        fault = self.choose(operation)
        return call() if fault is None else fault(call)


@final
class _FaultyPass(Pending):
    """A pass whose end may go wrong."""

    def __init__(self, started: Pending, do: Callable[[Operation, Callable[[], Any]], Any]) -> None:
        self._started, self._do = started, do

    def result(self) -> Tensor:
        """The logits."""
        logits: Tensor = self._do("result", self._started.result)
        return logits

    @property
    def measured(self) -> Mapping[int, Tensor]:
        """What was measured."""
        measured: Mapping[int, Tensor] = self._do("measured", lambda: self._started.measured)
        return measured


def once(operation: Operation, fault: Fault) -> Callable[[Operation], Fault | None]:
    """For `FaultyMember.choose`: the fault at the next operation of this kind, and never again."""
    faults = [fault]
    return lambda asked: faults.pop() if faults and asked == operation else None


def always(operation: Operation, fault: Fault) -> Callable[[Operation], Fault | None]:
    """For `FaultyMember.choose`: the fault at every operation of this kind."""
    return lambda asked: fault if asked == operation else None


def raising(error: BaseException) -> Fault:
    """The call is not made, and this is raised."""

    def fail(_: Callable[[], Any]) -> NoReturn:
        raise error.with_traceback(None)  # raised again and again, it would keep the frames of each time

    return fail


def raising_after(error: BaseException) -> Fault:
    """The call is made, and then this is raised in place of what it gave."""

    def fail(call: Callable[[], Any]) -> NoReturn:
        call()
        raise error.with_traceback(None)  # raised again and again, it would keep the frames of each time

    return fail


def returning(value: object) -> Fault:
    """The call is not made, and this comes back."""
    return lambda _: value


def changing(change: Callable[[Any], Any]) -> Fault:
    """What the call gives is changed."""
    return lambda call: change(call())


def waiting(seconds: float) -> Fault:
    """The call takes so much longer."""

    def wait(call: Callable[[], Any]) -> Any:
        time.sleep(seconds)
        return call()

    return wait


def _choose_none(operation: Operation) -> None:
    del operation
