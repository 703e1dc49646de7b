"""One sequence in one member: which tokens its cache holds, which wait to be fed, and what it said last."""

from __future__ import annotations

from typing import final

from torch import Tensor

from deepen_llm.decoding.alignment import Alignment
from deepen_llm.errors import ContextLengthError
from deepen_llm.members.base import Member
from deepen_llm.vocabulary import EncodedText


@final
class Track:
    """A row of a member's cache, kept in step with the sequence's text."""

    def __init__(self, member: Member, prompt: EncodedText) -> None:
        """Prepare a row for a prompt; nothing runs yet.

        Raises:
            ContextLengthError: The prompt leaves no room for an answer in this member's context.
        """
        self.member = member
        self.alignment = Alignment(member.vocabulary, prompt)
        self.pending = list(prompt.ids)
        self.logits: Tensor | None = None
        """Next-token logits (num_logits,) after everything that was fed."""
        self.num_fed = 0
        """Tokens in the member's cache."""
        self._row: int | None = None
        if len(self.pending) >= member.context_length:
            raise self.context_error()

    @property
    def row(self) -> int:
        """The handle of the row, opened when it is first asked for."""
        if self._row is None:
            self._row = self.member.open()
        return self._row

    @property
    def num_left(self) -> int:
        """Tokens for which the member's context has room behind the pending ones; negative where they do not fit."""
        return self.member.context_length - self.num_fed - len(self.pending)

    @property
    def is_full(self) -> bool:
        """Whether the pending tokens no longer fit into the member's context."""
        return self.num_left < 0

    def context_error(self) -> ContextLengthError:
        """What to say where the text does not fit."""
        num_tokens, fits = self.num_fed + len(self.pending), self.member.context_length
        return ContextLengthError(
            f"the text has {num_tokens} tokens for member {self.member.name!r}, whose context holds {fits}: "
            f"at most {fits - 1} of them leave room for an answer, shorten it"
        )

    def note_fed(self, logits: Tensor) -> None:
        """Record that the pending tokens went through a forward pass."""
        self.num_fed += len(self.pending)
        self.pending = []
        self.logits = logits

    def push_token(self, token_id: int) -> None:
        """Continue with a token of this member's own."""
        self.pending.append(token_id)

    def push_text(self, text: str, open_bytes: bytes) -> None:
        """Continue with text, which may change how the last tokens are cut: roll back to what is unchanged."""
        kept = self.alignment.append(text, open_bytes)
        ids = self.alignment.ids
        if kept == len(ids) < self.num_fed:
            kept -= 1  # the text lost tokens and gained none: the last one is fed again for its logits
        if kept < self.num_fed:
            self.member.rollback(self.row, self.num_fed - kept)
            self.num_fed = kept
        self.pending = ids[self.num_fed :]

    def release(self) -> None:
        """Free the row."""
        if self._row is not None:
            self.member.release(self._row)
            self._row = None
