"""What runs in an actor: a member of any kind, its rows, and the summaries of its passes."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping, Sequence
from typing import final

import torch

from deepen_llm.config import MemberConfig
from deepen_llm.members.base import Branch, Member, Pending
from deepen_llm.members.ray.messages import Asked, Change, Description, Table, Told
from deepen_llm.members.summary import Summary

logger = logging.getLogger(__name__)


@final
class MemberActor:
    """A member and its rows, called by the handles that the coordinator gives them.

    It is made without the model, so that its start and the loading can be told apart. No Ray is needed to use one: the
    coordinator's Ray makes it an actor, whose calls run one after the other in the order in which they were sent.
    """

    def __init__(self, config: MemberConfig, num_told: int) -> None:
        """Take the settings of the member, and of how many tokens a pass tells."""
        self._config = config
        self._num_told = num_told
        self._loaded: Member | None = None
        self._handles: dict[int, int] = {}
        self._broken: dict[int, Exception] = {}

    def find_place(self) -> str:
        """The name of the machine: that it answers says that the cluster had room."""
        return platform.node()

    def load(self) -> None:
        """Load the model; see `MemberConfig.load` for what it raises."""
        self._loaded = self._config.load()

    def describe(self) -> Description:
        """What the coordinator needs to know of the member."""
        member = self._member
        return Description(
            vocabulary=member.vocabulary,
            context_length=member.context_length,
            weight_bytes=member.weight_bytes,
            num_told=member.num_told,
            num_parameters=member.num_parameters,
            cache_bytes_per_token=member.cache_bytes_per_token,
            can_fork=member.can_fork,
            generation_defaults=member.generation_defaults,
            identity=dict(member.identity),
            source_reader=member.source_reader,
        )

    def find_table(self) -> Table | None:
        """The shape of the input embeddings; None where the member has none."""
        embeddings = self._member.embeddings
        return None if embeddings is None else Table(len(embeddings), embeddings.shape[1], embeddings.dtype)

    def read_embeddings(self, start: int, stop: int) -> bytes:
        """Some rows of the input embeddings, in their own number format."""
        embeddings = self._member.embeddings
        if embeddings is None:
            raise TypeError("the member has no embeddings")
        return embeddings[start:stop].detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()

    def run(self, asked: Asked) -> Told:
        """Do what is to be done before the pass, and then the pass."""
        with torch.inference_mode():
            for change in asked.changes:
                self._change(change)
            for row in asked.rows & self._broken.keys():
                raise self._broken[row]
            started = self._start(asked)
            summary = Summary.of_logits(started.result(), self._num_told)
        rows = {self._handles[row]: row for row in asked.rows}
        return Told.pack(summary, {rows[handle]: found for handle, found in started.measured.items()})

    def change(self, changes: Sequence[Change]) -> None:
        """Only what is to be done before a pass, where none is due."""
        with torch.inference_mode():
            for change in changes:
                self._change(change)

    def fork(self, row: int, new: int, num_back: int) -> int | None:
        """Begin the row `new` with what another holds; how many of its last tokens are left out, None for all."""
        handle = self._handles.get(row)
        if handle is None or row in self._broken:
            return None
        with torch.inference_mode():
            fork = self._member.fork(handle, num_back)
        if fork is None:
            return None
        self._handles[new] = fork.row
        return fork.num_back

    def park(self, row: int) -> int:
        """Set a row aside; how many bytes it takes. One that this actor does not know takes none."""
        with torch.inference_mode():
            return self._member.park(self._handles[row]) if row in self._handles else 0

    def restore(self, rows: Mapping[int, Sequence[int]], sources: Mapping[int, Sequence[int]]) -> None:
        """Feed rows what they had held in an actor before, one after the other: together they may not find memory."""
        with torch.inference_mode():
            for row, ids in rows.items():
                try:
                    self._start(Asked(tokens={row: ids}, sources=sources)).result()
                except Exception as error:  # of this row, and told when it is next asked for
                    logger.exception("a row of %d tokens could not be fed anew", len(ids))
                    self._broken[row] = error

    @property
    def _member(self) -> Member:
        if self._loaded is None:
            raise RuntimeError("the member is not loaded")
        return self._loaded

    def _start(self, asked: Asked) -> Pending:
        member, handles = self._member, self._handles
        if asked.branches:
            return member.start_peek([Branch(handles[row], back, ids) for row, back, ids in asked.branches])
        for row in asked.tokens:
            if row not in handles:
                source_ids = asked.sources.get(row)
                handles[row] = member.open() if source_ids is None else member.open_over(source_ids)
        return member.start_extend(
            {handles[row]: ids for row, ids in asked.tokens.items()},
            {handles[row]: num for row, num in asked.measured.items()},
            temperature=asked.temperature,
        )

    def _change(self, change: Change) -> None:
        """Take tokens back or end a row. Where that fails, the row is not to be used any more."""
        handle = self._handles.get(change.row)
        try:
            if change.num_back is None:
                self._broken.pop(change.row, None)
                self._handles.pop(change.row, None)
                if handle is not None:
                    self._member.release(handle)
            elif handle is not None:
                self._member.rollback(handle, change.num_back)
        except Exception as error:
            logger.exception("a row could not be changed: %s", change)
            if change.num_back is not None:
                self._broken[change.row] = error
