"""A member's last token boundary in a text, and what the member gave after paths of tokens from there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import final

from torch import Tensor

from deepen_llm.decoding.alignment import Alignment, num_equal
from deepen_llm.members.base import Branch
from deepen_llm.projection.results import Path
from deepen_llm.vocabulary import Vocabulary


@final
class TokenBoundary:
    """One track's last boundary: a member is asked there, with the bytes since then still pending."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Begin without knowing anything; the vocabulary is the member's."""
        self._vocabulary = vocabulary
        self.num_before = 0
        """The tokens before the boundary."""
        self.pending = b""
        """The bytes after it."""
        self.own_path: Path = ()
        """The member's own tokens for them, as far as it has any."""
        self.known: dict[Path, Tensor] = {}
        """The member's probs `(num_logits,)` after paths from the boundary that agree with the pending bytes."""
        self.foreseen: dict[Path, Tensor] = {}
        """The same of other paths, which no expansion has asked for yet."""
        self._num_unchanged = 0
        """At most this many leading tokens are as they were at the last move."""

    def note_kept(self, num_kept: int) -> None:
        """The text was continued, and only its first tokens stayed as they were."""
        self._num_unchanged = min(self._num_unchanged, num_kept)

    def move(self, alignment: Alignment, probs: Tensor) -> None:
        """Find the boundary of the text as it is; `probs` `(num_logits,)` are the member's after all of it."""
        count, self.pending = alignment.open_tail(self._vocabulary.prefixes)
        begin = len(alignment.ids) - count
        before = self.num_before
        if before <= begin and before <= self._num_unchanged:
            passed = tuple(alignment.ids[before:begin])
            self.known, self.foreseen = dict(self._keep(self.known, passed)), dict(self._keep(self.foreseen, passed))
        else:
            self.known, self.foreseen = {}, {}
        self.num_before, self._num_unchanged = begin, len(alignment.ids)
        self.own_path = tuple(alignment.ids[begin:])
        self.known[self.own_path] = probs

    def _keep(self, known: Mapping[Path, Tensor], passed: Path) -> Iterator[tuple[Path, Tensor]]:
        """What is known after paths that went along with the text, with these tokens cut off."""
        for path, probs in known.items():
            left = path[len(passed) :]
            if path[: len(passed)] == passed and self._agrees(left):
                # A row of a batch would keep the whole batch in memory.
                yield left, probs if probs.untyped_storage().nbytes() == probs.nbytes else probs.clone()

    def _agrees(self, path: Path) -> bool:
        """Whether a path may lie on the way through the pending bytes, or beyond them."""
        text = self._vocabulary.join(path)
        return text.startswith(self.pending) or self.pending.startswith(text)

    def branch(self, row: int, path: Path, fed: Sequence[int], ahead: Sequence[int]) -> Branch:
        """What `Member.peek` needs to tell what comes after a path from the boundary.

        Of the path only what the row does not hold is fed, but for a token at least.

        Args:
            row: Of the member.
            path: Tokens from the boundary on.
            fed: Those of the text that the row holds, the ones before the boundary among them.
            ahead: What it holds behind them.
        """
        before = self.num_before
        if not path:
            return Branch(row, len(fed) + len(ahead) - before + 1, fed[before - 1 : before])
        held = (*fed[before:], *ahead)
        num_kept = num_equal(path[:-1], held)
        return Branch(row, len(held) - num_kept, path[num_kept:])
