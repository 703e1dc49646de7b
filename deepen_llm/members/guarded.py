"""A member as the engine sees it: whatever goes wrong in one is an own error that names it, said in one way."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from traceback import clear_frames
from types import TracebackType
from typing import NoReturn, final

import torch
from torch import Tensor

from deepen_llm.errors import MemberError, MemberTimeoutError, NumericalError
from deepen_llm.members.base import Branch, Fork, Member, Pending
from deepen_llm.members.source import SourceReader
from deepen_llm.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

RUNNING = "in a forward pass"
MOST_LOGPROB = 1e-3
"""More than nothing only by rounding."""

Where = Callable[[int], str]
"""Tells the place of a row in the batch apart for people: "at step 3", say."""


@final
@dataclass(frozen=True, slots=True)
class Logits:
    """What one forward pass made: the member's logits by its temperature, and which rows of them cannot be used."""

    tensor: Tensor
    """(rows, num_logits), on the member's device; -inf rules a token out."""
    errors: dict[int, NumericalError]
    """By the place of the row in the batch: NaN, infinity, or every token ruled out."""
    measured: Mapping[int, Sequence[float]] = field(default_factory=dict)
    """By row, the natural-log probabilities of its last tokens, where they were asked for and can be said."""


@final
class GuardedPass:
    """A forward pass that was started; whatever failed, at the start as well, is raised by `result`."""

    def __init__(
        self,
        member: Member,
        rows: Sequence[int],
        start: Callable[[], Pending],
        measured: Mapping[int, int] | None = None,
        temperature: float = 1.0,
        *,
        tells_each: bool = False,
    ) -> None:
        """Start it: `start` begins a pass over rows, of which some are to be measured; see `GuardedMember`."""
        self.tells_each = tells_each
        """Whether a row is there once for every token after which its logits are told."""
        self._member = member
        self._rows = rows
        self._num_measured = measured or {}
        self._temperature = temperature
        self._pending: Pending | None = None
        self._error: MemberError | None = None
        try:
            with _Guard(member, RUNNING):
                self._pending = _check_started(start())
        except MemberError as error:
            self._error = error

    def result(self, where: Where | None = None) -> Logits:
        """Wait for the logits and check them. Called once.

        Args:
            where: What the errors of single rows say of a place in the batch, such as "at step 3".

        Raises:
            MemberError: The member raised, or returned something other than its logits. The rows of the pass are then
                good for `release` only.
            MemberTimeoutError: The same, where it raised a `TimeoutError`.
        """
        if self._error is not None:
            raise self._error
        with _Guard(self._member, RUNNING):
            if self._pending is None:
                raise TypeError("the result of a forward pass is taken once")
            pending, self._pending = self._pending, None
            logits = pending.result()
            _check_logits(self._member, logits, len(self._rows))
            if self._temperature != 1:
                logits = _temper(logits, self._temperature)
            measured = _check_measured(pending.measured, self._num_measured) if self._num_measured else {}
            tops = logits.amax(dim=-1).tolist()  # the one read from the device: NaN is the greatest of all
        for place, row in enumerate(self._rows):
            if any(math.isnan(logprob) or logprob > MOST_LOGPROB for logprob in measured.get(row, ())):
                tops[place] = math.nan
        return Logits(logits, _find_unusable(self._member.name, tops, where), measured)


@final
class GuardedMember:
    """One member of a running ensemble. Any exception of its own becomes a `MemberError`, logged once.

    So do an exit of the interpreter and the panic of a foreign library: they would end the thread that all members run
    in.

    This is where its temperature comes in, and nowhere else: whoever stands on this sees tempered logits, and
    log-probabilities that are measured by such.
    """

    def __init__(self, member: Member, temperature: float = 1.0) -> None:
        """`temperature`, above 0, divides the logits."""
        self.member = member
        """The member itself."""
        self.temperature = temperature

    @property
    def name(self) -> str:
        """The member's."""
        return self.member.name

    @property
    def vocabulary(self) -> Vocabulary:
        """The member's."""
        return self.member.vocabulary

    @property
    def context_length(self) -> int:
        """The most tokens that a row can hold."""
        return self.member.context_length

    @property
    def device(self) -> torch.device:
        """Where the logits are left."""
        return self.member.device

    @property
    def num_parameters(self) -> int | None:
        """How large the model is; None where it cannot say."""
        return self.member.num_parameters

    @property
    def embeddings(self) -> Tensor | None:
        """The input embeddings, (rows, hidden); None where the member has none."""
        return self.member.embeddings

    @property
    def cache_bytes_per_token(self) -> int | None:
        """Memory that each cached token takes; None where the cache does not grow with the text."""
        return self.member.cache_bytes_per_token

    @property
    def can_fork(self) -> bool:
        """Whether a row may begin with the tokens of another."""
        return self.member.can_fork

    @property
    def source_reader(self) -> SourceReader | None:
        """How it reads a part of the prompt in an encoder; None where it has none."""
        return self.member.source_reader

    def open(self, source_ids: Sequence[int] = ()) -> int:
        """Begin an empty row, over a source where there is one, and return its handle.

        Raises:
            MemberError: The member failed.
        """
        with _Guard(self.member, "while a row was opened"):
            return _check_opened(self.member.open_over(source_ids) if source_ids else self.member.open())

    def start_extend(
        self, tokens: Mapping[int, Sequence[int]], measured: Mapping[int, int] | None = None
    ) -> GuardedPass:
        """Begin to feed each row its new tokens (at least one per row). Raises nothing: `GuardedPass.result` does.

        Args:
            tokens: By row.
            measured: By row, how many of its last tokens are measured on the way: see `Member.start_extend`.
        """
        return GuardedPass(
            self.member, list(tokens), lambda: self._start_extend(tokens, measured), measured, self.temperature
        )

    @property
    def tells_each(self) -> bool:
        """Whether it tells the logits after each of several tokens."""
        return self.member.tells_each

    def start_extend_each(self, tokens: Mapping[int, Sequence[int]], num_told: Mapping[int, int]) -> GuardedPass:
        """Begin to feed rows, for the logits after several tokens of each: see `Member.start_extend_each`.

        Raises nothing: `GuardedPass.result` does.
        """
        rows = [row for row in tokens for _ in range(num_told[row])]
        return GuardedPass(
            self.member,
            rows,
            lambda: self.member.start_extend_each(tokens, num_told),
            temperature=self.temperature,
            tells_each=True,
        )

    def start_peek(self, branches: Sequence[Branch]) -> GuardedPass:
        """Begin to compute what would come after other tokens. Raises nothing: `GuardedPass.result` does."""
        return GuardedPass(
            self.member,
            range(len(branches)),
            lambda: self.member.start_peek(branches),
            temperature=self.temperature,
        )

    def rollback(self, row: int, num_tokens: int) -> None:
        """Forget the last `num_tokens` tokens of a row.

        Raises:
            MemberError: The member failed.
        """
        with _Guard(self.member, "while tokens were taken back"):
            self.member.rollback(row, num_tokens)

    def fork(self, row: int, num_back: int) -> Fork | None:
        """Begin a row with what another holds but for its last tokens, or some more; None where it cannot be.

        Raises:
            MemberError: The member failed.
        """
        with _Guard(self.member, "while a row was copied"):
            return _check_fork(self.member.fork(row, num_back), num_back)

    def park(self, row: int) -> int:
        """Set a row aside, to be forked and released only, and return how many bytes it takes.

        Raises:
            MemberError: The member failed.
        """
        with _Guard(self.member, "while a row was set aside"):
            return _check_size(self.member.park(row))

    def release(self, row: int) -> None:
        """End a row and free its cache at once.

        Raises:
            MemberError: The member failed.
        """
        with _Guard(self.member, "while a row was released"):
            self.member.release(row)

    def _start_extend(self, tokens: Mapping[int, Sequence[int]], measured: Mapping[int, int] | None) -> Pending:
        if not measured or self.temperature == 1:
            return self.member.start_extend(tokens, measured)
        return self.member.start_extend(tokens, measured, temperature=self.temperature)


def _temper(logits: Tensor, temperature: float) -> Tensor:
    """Logits divided by a temperature, in float32 at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature


class _WrongResult(Exception):  # noqa: N818 - it never leaves this module
    """What a member returned is not what was asked of it."""


@final
class _Guard:
    """Turns any exception of the member into a `MemberError` and logs it.

    No generator of contextlib: those let a StopIteration of the member through.
    """

    def __init__(self, member: Member, doing: str) -> None:
        self._member, self._doing = member, doing

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            return  # only there it is the user's
        logger.error("member %r failed %s", self._member.name, self._doing, exc_info=error)
        clear_frames(trace)  # they hold the tensors of a pass that failed for as long as anybody holds the error
        _raise_own(self._member.name, self._doing, error)


def _raise_own(name: str, doing: str, error: BaseException) -> NoReturn:
    what = str(error) if isinstance(error, _WrongResult) else f"{type(error).__name__}: {error}"
    own = MemberTimeoutError if isinstance(error, TimeoutError) else MemberError
    message = f"member {name!r} failed {doing}: {what}; the ensemble stays usable: try again, or leave it out"
    raise own(message) from error


def _check_started(pending: object) -> Pending:
    if not isinstance(pending, Pending):
        raise _WrongResult(f"it must start a forward pass as a Pending; got {_describe(pending)}")
    return pending


def _check_opened(row: object) -> int:
    if not isinstance(row, int):
        raise _WrongResult(f"it must return the handle of a row, an int; got {_describe(row)}")
    return row


def _check_fork(fork: object, num_back: int) -> Fork | None:
    if fork is not None and not (isinstance(fork, Fork) and fork.num_back >= num_back):
        raise _WrongResult(
            f"it must return a Fork that leaves out {num_back} tokens or more, or None; got {_describe(fork)}"
        )
    return fork


def _check_size(num_bytes: object) -> int:
    if not isinstance(num_bytes, int) or num_bytes < 0:
        raise _WrongResult(f"it must return how many bytes a row takes, an int; got {_describe(num_bytes)}")
    return num_bytes


def _check_logits(member: Member, logits: object, num_rows: int) -> None:
    due = (num_rows, len(member.vocabulary))
    if not isinstance(logits, Tensor) or not logits.is_floating_point() or logits.shape != due:
        raise _WrongResult(f"it must return logits of shape {due}, one per token; got {_describe(logits)}")


def _check_measured(measured: Mapping[int, Tensor], due: Mapping[int, int]) -> dict[int, list[float]]:
    """What was measured of the rows of which that was asked, as numbers."""
    found: dict[int, list[float]] = {}
    for row, num in due.items():
        logprobs: object = measured.get(row)
        if logprobs is None:
            continue
        if not isinstance(logprobs, Tensor) or not logprobs.is_floating_point() or logprobs.shape != (num,):
            raise _WrongResult(f"it must return {num} log-probabilities of a row; got {_describe(logprobs)}")
        found[row] = logprobs.tolist()
    return found


def _describe(value: object) -> str:
    """What came, for a message: the type, of a tensor its shape and dtype."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    return "None" if value is None else f"a {type(value).__name__}"


def _find_unusable(name: str, tops: Sequence[float], where: Where | None) -> dict[int, NumericalError]:
    """An error for every row whose greatest logit is no number."""
    errors: dict[int, NumericalError] = {}
    for place, top in enumerate(tops):
        if math.isfinite(top):
            continue
        step = f" {where(place)}" if where is not None else ""
        what = "only -infinity" if top == -math.inf else "NaN or infinity"
        errors[place] = NumericalError(f"{what} in the logits of {name!r}{step}: try another dtype, such as float32")
    return errors
