"""Work that may go deep and take long: in a thread with a large stack, waited for as long as there is time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from deepen_llm.errors import GrammarError

STACK_BYTES = 256 * 2**20
"""The stack of such a thread; only what is used of it takes memory. llguidance goes some 4 kB deeper for every rule or
`$ref` that leads to another, of which `grammar_limits.py` lets 2,000 pass; a usual stack is 8 MB, or 1 MB."""

MAX_S = 5.0
"""Seconds after which a structure counts as one that cannot be compiled; good ones take less than one."""

Result = TypeVar("Result")
_stack_size = threading.Lock()


class Waiting(Protocol):
    """A deadline, as far as it is needed here."""

    @property
    def remaining_s(self) -> float | None:
        """Seconds until then; None for one that never comes."""

    @property
    def is_over(self) -> bool:
        """Whether it has come."""

    @property
    def error(self) -> Exception:
        """What is raised then."""


def run_deep(work: Callable[[], Result], deadline: Waiting | None = None) -> Result:
    """What `work` returns, which runs in a thread of its own; what it raises is raised here.

    A call into a foreign library cannot be stopped: where the time is over, it is left to end by itself, which the
    limits on what it is given see to.

    Raises:
        GrammarError: It took longer than `MAX_S`.
        MemberTimeoutError: The deadline was over before.
    """
    done: Future[Result] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # it is raised in the thread that waits
            done.set_exception(error)

    _start(run)
    remaining_s = None if deadline is None else deadline.remaining_s
    try:
        return done.result(MAX_S if remaining_s is None else min(remaining_s, MAX_S))
    except TimeoutError:
        if done.done():  # in time after all, or with an error that is itself a TimeoutError
            return done.result()
        if deadline is not None and remaining_s is not None and remaining_s <= MAX_S:
            raise deadline.error from None
        raise GrammarError(
            f"a structure must be compiled within {MAX_S:g} s; this one was not: make it simpler, with fewer parts "
            "that repeat, combine or exclude each other"
        ) from None


def _start(run: Callable[[], None]) -> None:
    with _stack_size:
        before = threading.stack_size(STACK_BYTES)
        try:
            threading.Thread(target=run, name="deepen-structure", daemon=True).start()
        finally:
            threading.stack_size(before)
