"""What the engine asks of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from deepen_llm.errors import ConfigError
from deepen_llm.members.generation_defaults import GenerationDefaults
from deepen_llm.members.source import SourceReader
from deepen_llm.vocabulary import Vocabulary


class Branch(NamedTuple):
    """A row with other tokens at its end."""

    row: int
    num_back: int
    """How many of the row's last tokens are left out."""
    ids: Sequence[int]
    """The tokens in their place, at least one."""


class Fork(NamedTuple):
    """A row that begins with the tokens of another."""

    row: int
    num_back: int
    """How many of the other row's last tokens it does not hold: as many as were to be left out, or more."""


class Pending(ABC):
    """A forward pass that was started: on an accelerator, on a server, on another machine, or done already."""

    @abstractmethod
    def result(self) -> Tensor:
        """Wait for the pass and return its logits, (rows, num_logits). Called once.

        Raises:
            Exception: Whatever went wrong since the start; the rows of the pass are then good for `release` only.
        """

    @property
    def measured(self) -> Mapping[int, Tensor]:
        """Once the result was taken, what `start_extend` was asked to measure, by row; empty where it cannot be said.

        The natural-log probability of each of the row's last tokens, after all those before it: `(num,)`, float32, on
        the CPU.
        """
        return {}


@final
class Ready(Pending):
    """A pass of a member that computes at once. On an accelerator the work may still be under way."""

    def __init__(self, logits: Tensor, measured: Mapping[int, Tensor] | None = None) -> None:
        """`logits` are (rows, num_logits); `measured` as in `Pending`."""
        self._logits = logits
        self._measured = measured or {}

    def result(self) -> Tensor:
        """The logits, (rows, num_logits)."""
        return self._logits

    @property
    def measured(self) -> Mapping[int, Tensor]:
        """See `Pending.measured`."""
        return self._measured


class Member(ABC):
    """One model of an ensemble: a vocabulary, rows of cached context, and input embeddings where it shows them.

    The engine opens a row for each sequence, feeds it the tokens that it has not seen yet, takes tokens back where
    the text turns out to be cut otherwise, and releases it. One thread at a time calls a member.

    A forward pass has a start and a result, so that members elsewhere run at the same time: the engine starts a pass in
    every member and then takes the results. Passes take effect in the order in which they were started, and every
    result is taken. Between the start and the result of a pass none of its rows is rolled back, forked, parked or
    released.
    """

    name: str
    vocabulary: Vocabulary
    context_length: int
    """The most tokens that a row can hold."""

    @property
    def kind(self) -> str:
        """The kind of member, for messages: its name in `config.members.KINDS`, or that of the class."""
        return type(self).__name__

    @property
    def embeddings(self) -> Tensor | None:
        """The input embeddings, (rows, hidden), or None where the member has none to show.

        Rows may be more or fewer than there are logits.
        """
        return None

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where `extend` leaves its logits."""

    @property
    @abstractmethod
    def weight_bytes(self) -> int:
        """Memory of the weights, also of those that are shared."""

    @property
    def shared_weight_bytes(self) -> int:
        """How much of `weight_bytes` is in memory for a member that was loaded before anyway, and counted there."""
        return 0

    @property
    def num_told(self) -> int | None:
        """Of how many tokens, the most probable ones, a pass tells the logits; None: of all.

        What is left is spread over the others (`members.summary`). Such a member cannot be the main model, whose tokens
        are all chosen from.
        """
        return None

    @property
    def tells_each(self) -> bool:
        """Whether it has `start_extend_each`, with which the engine reads ahead; where not, it takes a token a pass."""
        return False

    @property
    def computes_beside(self) -> bool:
        """Whether passes take this machine's processor in threads of their own, while other members' passes run."""
        return False

    @property
    def token_cost(self) -> float:
        """What one more token costs in a pass, as a share of a pass of one: how far to read ahead depends on it."""
        return 0.05

    @property
    def num_parameters(self) -> int | None:
        """How large the model is, in parameters; None where the member cannot say."""
        return None

    @property
    @abstractmethod
    def cache_bytes_per_token(self) -> int | None:
        """Memory that each cached token takes; None where the cache does not grow with the text."""

    @property
    def generation_defaults(self) -> GenerationDefaults:
        """What the model's own settings say of how it generates; nothing where the member knows of none."""
        return GenerationDefaults()

    @property
    def source_reader(self) -> SourceReader | None:
        """How the member reads a part of the prompt in an encoder; None: it has none, and continues the prompt."""
        return None

    @property
    def can_fork(self) -> bool:
        """Whether a row may begin with the tokens of another, by `fork`, and be set aside for that, by `park`."""
        return False

    @property
    @abstractmethod
    def identity(self) -> Mapping[str, object]:
        """What tells this member's answers from another's, as JSON values. No secrets."""

    @abstractmethod
    def open(self) -> int:
        """Begin an empty row and return its handle, which no other open row has.

        Raises:
            ClosedError: The member was closed.
        """

    def open_over(self, source_ids: Sequence[int]) -> int:
        """Begin an empty row over what the encoder reads; for members with a `source_reader`.

        Raises:
            ClosedError: The member was closed.
            TypeError: The member has no encoder.
        """
        raise TypeError(f"a member of kind {self.kind!r} has no encoder to read {len(source_ids)} tokens of a source")

    @abstractmethod
    def start_extend(
        self,
        tokens: Mapping[int, Sequence[int]],
        measured: Mapping[int, int] | None = None,
        *,
        temperature: float = 1.0,
    ) -> Pending:
        """Begin to feed each row its new tokens (at least one per row), in one forward pass.

        Args:
            tokens: The new tokens, by row.
            measured: For some of the rows, of how many of their last new tokens `Pending.measured` is to tell how
                probable they were; fewer than there are, since of the first one an earlier pass would have to tell. A
                member that would need another pass for it need not tell.
            temperature: What the logits are divided by where tokens are measured; a member that cannot do so need not
                tell. The logits that come back are the model's own, whatever it is.

        Returns:
            Logits to come, after each row's last token: (len(tokens), num_logits), in the order of the mapping.

        Raises:
            ClosedError: The member was closed.
        """

    def start_extend_each(self, tokens: Mapping[int, Sequence[int]], num_told: Mapping[int, int]) -> Pending:
        """As `start_extend`, with logits after several tokens of a row; for members with `tells_each`.

        Args:
            tokens: The new tokens, by row.
            num_told: By row, after how many of its last new tokens the logits are to come: at least one, at most all.

        Returns:
            Logits to come, (sum of num_told, num_logits): the rows in the order of `tokens`, those of one row in the
            order of its tokens.

        Raises:
            ClosedError: The member was closed.
            TypeError: The member cannot tell them.
        """
        raise TypeError(
            f"a member of kind {self.kind!r} tells no more than the logits after a row's last token; asked for "
            f"{sum(num_told.values())} of {len(tokens)} rows"
        )

    @abstractmethod
    def start_peek(self, branches: Sequence[Branch]) -> Pending:
        """Begin to compute what would come after other tokens, in one forward pass; no row is changed.

        Args:
            branches: Each a row, how many of its last tokens to leave out, and the tokens to put there (at least one).
                A row may have several.

        Returns:
            Logits to come, after each branch's last token: (len(branches), num_logits).

        Raises:
            ClosedError: The member was closed.
        """

    @final
    def extend(self, tokens: Mapping[int, Sequence[int]]) -> Tensor:
        """`start_extend`, and wait: logits (len(tokens), num_logits), in the order of the mapping."""
        return self.start_extend(tokens).result()

    @final
    def peek(self, branches: Sequence[Branch]) -> Tensor:
        """`start_peek`, and wait: logits (len(branches), num_logits)."""
        return self.start_peek(branches).result()

    @abstractmethod
    def rollback(self, row: int, num_tokens: int) -> None:
        """Forget the last `num_tokens` tokens of a row."""

    def fork(self, row: int, num_back: int) -> Fork | None:
        """Begin a row with what another one holds but for its last tokens; for members that `can_fork`.

        Args:
            row: The other one, which was fed, and goes on as it is.
            num_back: How many of its last tokens are left out, fewer than it holds.

        Returns:
            The new row, good for everything; None where it would have to begin empty: a state cannot be taken back so
            far, a row that was parked is lost, or there is no room.

        Raises:
            ClosedError: The member was closed.
            TypeError: The member cannot do so.
        """
        raise TypeError(
            f"a member of kind {self.kind!r} cannot begin a row with all tokens of row {row} but the last {num_back}"
        )

    def park(self, row: int) -> int:
        """Set a row aside, which is then good for `fork` and `release` only; for members that `can_fork`.

        Passes have nothing to do with it any more. A member may lose it where others need the room.

        Returns:
            How much memory it takes, in bytes.

        Raises:
            TypeError: The member cannot do so.
        """
        raise TypeError(f"a member of kind {self.kind!r} cannot set row {row} aside")

    @abstractmethod
    def release(self, row: int) -> None:
        """End a row and free its cache at once. A row that was opened and never fed may be released, too."""

    @abstractmethod
    def close(self) -> None:
        """Free the model; rows that are open end. The member cannot be used afterwards, except to close it again."""


def require_embeddings(member: Member, method: str = "relative") -> Tensor:
    """The member's input embeddings, (rows, hidden), for a fusion method that cannot do without.

    Raises:
        ConfigError: The member has none.
    """
    embeddings = member.embeddings
    if embeddings is None:
        raise ConfigError(
            f"method={method!r} needs the input embeddings of every member; member {member.name!r} (kind "
            f"{member.kind!r}) has none: take method='text', which needs none, or leave the member out"
        )
    return embeddings
