"""A member that runs in an actor of a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Self, final

import torch
from torch import Tensor

from deepen_llm.errors import ClosedError, MemberError, MemberTimeoutError, quote
from deepen_llm.members.base import Branch, Fork, Member, Pending
from deepen_llm.members.generation_defaults import GenerationDefaults
from deepen_llm.members.names import member_name
from deepen_llm.members.ray.cluster import Connection
from deepen_llm.members.ray.dialogue import Dialogue
from deepen_llm.members.ray.host import ActorHost, ActorLostError
from deepen_llm.members.ray.journal import Entry, Journal
from deepen_llm.members.ray.messages import Description
from deepen_llm.members.ray.settings import RayConfig
from deepen_llm.members.source import SourceReader

PIECE_BYTES = 1 << 26
"""Embeddings come in pieces of this size: Ray's store need not hold them whole."""


@final
class RayMember(Member):
    """Stands in the coordinator for a member elsewhere: token ids go there, the best tokens of every row come back.

    What becomes of rows between passes goes with the next pass. The coordinator knows all tokens of every row, so that
    an actor that died is followed by another which is fed the same.
    """

    def __init__(self, config: RayConfig, name: str, connection: Connection, host: ActorHost) -> None:
        """`host` runs an actor that has its model. The member closes both.

        Raises:
            MemberError: The actor died and no other one answers.
        """
        self.name = name
        self._connection, self._host = connection, host
        self._journal = Journal()
        self._dialogue = Dialogue(config, name, host, self._journal)
        self._description: Description = self._dialogue.ask("describe")
        self._top = config.top
        self.vocabulary = self._description.vocabulary
        self.context_length = self._description.context_length
        self._is_closed = False

    @classmethod
    def load(cls, config: RayConfig) -> Self:
        """Start an actor that loads the member.

        Raises:
            ConfigError: A placement group that does not exist, a second cluster; what the member's settings ask for.
            MemberError: The cluster does not answer or has no room; what loading the member raises.
            MissingDependencyError: Ray is not installed here, or what the member needs is not there.
            VocabularyError: A tokenizer that cannot be read as bytes.
        """
        name = member_name(config)
        connection = Connection(config.address, name)
        host = ActorHost(config, name, connection)
        try:
            host.start()
            return cls(config, name, connection, host)
        except BaseException as error:
            host.stop()
            connection.close()
            if isinstance(error, (ActorLostError, MemberTimeoutError)):
                raise MemberError(f"member {quote(name)} cannot be loaded: {error}") from error
            raise

    @property
    def kind(self) -> str:
        """A member in an actor."""
        return "ray"

    @cached_property
    def embeddings(self) -> Tensor | None:
        """A copy of the member's, on the CPU, fetched when it is first asked for.

        Raises:
            MemberError: The actor died and no other one answers.
        """
        self._check_open()
        table = self._dialogue.ask("find_table")
        if table is None:
            return None
        step = max(PIECE_BYTES // (table.hidden * table.dtype.itemsize), 1)
        embeddings = torch.empty(table.num_rows, table.hidden, dtype=table.dtype)
        for start in range(0, table.num_rows, step):
            piece = self._dialogue.ask("read_embeddings", start, start + step)
            embeddings[start : start + step] = table.unpack(piece)
        return embeddings

    @property
    def device(self) -> torch.device:
        """The CPU: that is where summaries arrive."""
        return torch.device("cpu")

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights, in the actor."""
        return self._description.weight_bytes

    @property
    def num_told(self) -> int | None:
        """As many as the settings say, or the member itself tells; None where that is the whole vocabulary."""
        num = min(self._top, self._description.num_told or self._top)
        return num if num < len(self.vocabulary) else None

    @property
    def num_parameters(self) -> int | None:
        """The member's."""
        return self._description.num_parameters

    @property
    def cache_bytes_per_token(self) -> int | None:
        """In the actor."""
        return self._description.cache_bytes_per_token

    @property
    def can_fork(self) -> bool:
        """Whether the member can."""
        return self._description.can_fork

    @property
    def generation_defaults(self) -> GenerationDefaults:
        """The member's."""
        return self._description.generation_defaults

    @property
    def source_reader(self) -> SourceReader | None:
        """The member's."""
        return self._description.source_reader

    @property
    def identity(self) -> Mapping[str, object]:
        """The member's, and of how many tokens it tells."""
        return {**self._description.identity, "num_told": self.num_told}

    def open(self) -> int:
        """Begin an empty row, of which the actor hears when it is fed."""
        self._check_open()
        return self._journal.open()

    def open_over(self, source_ids: Sequence[int]) -> int:
        """Begin an empty row over what the member's encoder reads."""
        self._check_open()
        if self.source_reader is None:
            return super().open_over(source_ids)
        return self._journal.open(source_ids)

    def start_extend(
        self,
        tokens: Mapping[int, Sequence[int]],
        measured: Mapping[int, int] | None = None,
        *,
        temperature: float = 1.0,
    ) -> Pending:
        """Have each row fed its new tokens. Logits to come are log-probabilities, (len(tokens), num_logits)."""
        self._check_open()
        return self._start(self._journal.begin(tokens, measured, temperature=temperature))

    def start_peek(self, branches: Sequence[Branch]) -> Pending:
        """Have computed what would come after other tokens, (len(branches), num_logits)."""
        self._check_open()
        return self._start(self._journal.begin({}, branches=branches))

    def rollback(self, row: int, num_tokens: int) -> None:
        """Forget the last tokens of a row; the actor does with the next pass."""
        self._journal.roll_back(row, num_tokens)

    def fork(self, row: int, num_back: int) -> Fork | None:
        """Have a row begun with what another holds; None where the actor that knew that one is gone."""
        self._check_open()
        self._check_forks(row)
        new = self._journal.next_row()
        self._dialogue.send_changes()
        left_out: int | None = self._dialogue.ask("fork", row, new, num_back)
        if left_out is None:
            return None
        self._journal.fork(row, new, left_out)
        return Fork(new, left_out)

    def park(self, row: int) -> int:
        """Have a row set aside. Where the actor dies, it is lost."""
        self._check_forks(row)
        self._dialogue.send_changes()
        num_bytes: int = self._dialogue.ask("park", row)
        self._journal.park(row)
        return num_bytes

    def release(self, row: int) -> None:
        """End a row. The actor does with the next pass, or at once where no other row is open."""
        if self._is_closed:
            return
        self._journal.release(row)
        if self._journal.is_idle:
            self._dialogue.send_changes()

    def close(self) -> None:
        """End the actor. May be called again."""
        if not self._is_closed:
            self._is_closed = True
            self._host.stop()
            self._connection.close()

    def _start(self, entry: Entry) -> Pending:
        self._dialogue.send(entry)
        return _RayPass(self._dialogue, entry, len(self.vocabulary))

    def _check_forks(self, row: int) -> None:
        if not self.can_fork:
            raise TypeError(f"member {self.name!r}, in an actor, cannot begin a row with the tokens of row {row}")

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError(f"member {self.name!r} is closed: load it again")


@final
class _RayPass(Pending):
    """A pass that an actor was asked for."""

    def __init__(self, dialogue: Dialogue, entry: Entry, num_logits: int) -> None:
        self._dialogue, self._entry, self._num_logits = dialogue, entry, num_logits
        self._measured: Mapping[int, Tensor] = {}

    def result(self) -> Tensor:
        """Wait for the summaries, and spread what is left of each."""
        summary, self._measured = self._dialogue.receive(self._entry).unpack()
        return summary.spread(self._num_logits)

    @property
    def measured(self) -> Mapping[int, Tensor]:
        """What was measured there."""
        return self._measured
