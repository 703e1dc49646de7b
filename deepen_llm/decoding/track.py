"""One member of one sequence: which tokens its cache holds, which wait to be fed, and what it gave last."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import final

from torch import Tensor

from deepen_llm.decoding.alignment import Alignment
from deepen_llm.decoding.prompt_words import MeasuredPrompt
from deepen_llm.decoding.token_boundary import TokenBoundary
from deepen_llm.errors import ContextLengthError
from deepen_llm.members.base import Branch
from deepen_llm.members.guarded import GuardedMember
from deepen_llm.projection.results import Path, Projection
from deepen_llm.vocabulary import EncodedText


@final
class Track:
    """A row of a member's cache, kept in step with the sequence's text, and what was counted on the way."""

    def __init__(self, member: GuardedMember, prompt: EncodedText, *, takes_main_tokens: bool) -> None:
        """Prepare a row for a prompt; nothing runs yet.

        Args:
            member: Whose row.
            prompt: In the member's tokens.
            takes_main_tokens: The member has the main model's vocabulary, and takes its tokens as they are, however it
                would cut the text itself.

        Raises:
            ContextLengthError: The prompt leaves no room for an answer in this member's context.
        """
        self.member = member
        self.takes_main_tokens = takes_main_tokens
        self.alignment = Alignment(member.vocabulary, prompt)
        self.pending = list(prompt.ids)
        self.num_fed = 0
        """Tokens in the member's cache."""
        self.batch: Tensor | None = None
        """Next-token logits `(rows, num_logits)` of the last pass that the track was part of."""
        self.place = 0
        """Its row of them."""
        self.projection: Projection | None = None
        """What expanding the member's tokens came to at this step; None where none were."""
        self.prompt: MeasuredPrompt | None = None
        """What the member gave the prompt, once it was fed and measured."""
        self._num_measured = 0
        self.num_extra_rows = self.num_extra_passes = self.num_abstained = 0
        self.truncated_mass = 0.0
        """Summed over steps."""
        self._row: int | None = None
        if len(self.pending) >= member.context_length:
            raise self.context_error()

    @cached_property
    def boundary(self) -> TokenBoundary:
        """The last boundary of the member's tokens, for a member whose distributions are projected."""
        return TokenBoundary(self.member.vocabulary)

    @property
    def logits(self) -> Tensor | None:
        """Next-token logits `(num_logits,)` after everything that was fed; None before the first pass."""
        return None if self.batch is None else self.batch[self.place]

    @property
    def row(self) -> int:
        """The handle of the row, opened when it is first asked for.

        Raises:
            MemberError: The member failed.
        """
        if self._row is None:
            self._row = self.member.open()
        return self._row

    @property
    def num_left(self) -> int:
        """Tokens for which the member's context has room after the pending ones; negative where they do not fit."""
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

    def measure_prompt(self, num_tokens: int) -> None:
        """Have the prompt's last tokens measured when it is fed, as many as there are of this number."""
        self._num_measured = num_tokens

    @property
    def num_measured(self) -> int:
        """How many of the pending tokens are to be measured as they are fed."""
        return 0 if self.num_fed else min(self._num_measured, len(self.pending) - 1)

    def note_fed(self, batch: Tensor, place: int, measured: Sequence[float] | None = None) -> None:
        """Record that the pending tokens went through a forward pass, as one row of it; and what was measured."""
        if measured is not None:
            self.prompt = MeasuredPrompt(self.member.vocabulary, tuple(self.pending), measured)
        self.num_fed += len(self.pending)
        self.pending = []
        self.batch, self.place = batch, place

    def push(self, token_id: int, text: str, open_bytes: bytes) -> None:
        """Continue with a token of the main model.

        Args:
            token_id: The token.
            text: What became whole with it.
            open_bytes: Those of a character that is not complete yet.
        """
        self.projection = None
        if self.takes_main_tokens:
            self.pending.append(token_id)
        else:
            self._push_text(text, open_bytes)

    def _push_text(self, text: str, open_bytes: bytes) -> None:
        """Continue with text, which may change how the last tokens are cut: roll back to what is unchanged."""
        kept = self.alignment.append(text, open_bytes)
        self.boundary.note_kept(kept)
        ids = self.alignment.ids
        if kept == len(ids) < self.num_fed:
            kept -= 1  # the text lost tokens and gained none: the last one is fed again for its logits
        if kept < self.num_fed:
            self.member.rollback(self.row, self.num_fed - kept)
            self.num_fed = kept
        self.pending = ids[self.num_fed :]

    def branch(self, path: Path) -> Branch:
        """What `Member.peek` needs to tell what comes after a path from the boundary."""
        before = self.boundary.num_before
        if path:
            return Branch(self.row, self.num_fed - before, path)
        return Branch(self.row, self.num_fed - before + 1, self.alignment.ids[before - 1 : before])

    def note_projection(self, projection: Projection) -> None:
        """Record what expanding the member's tokens came to at this step."""
        self.projection = projection
        self.num_extra_rows += projection.num_rows
        self.num_extra_passes += projection.num_passes
        self.truncated_mass += projection.truncated_mass

    def release(self) -> None:
        """Free the row.

        Raises:
            MemberError: The member failed; the row counts as freed.
        """
        if self._row is not None:
            row, self._row = self._row, None
            self.member.release(row)
