"""Where a member's text was last at one of its own token boundaries, and what it has said since then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

from torch import Tensor

from deepen_llm.decoding.track import Track
from deepen_llm.members.base import Branch
from deepen_llm.reading.row import Path
from deepen_llm.vocabulary.prefixes import TokenPrefixes


@final
class Boundary:
    """One track's last boundary: a member is asked there, with the bytes since then still open."""

    def __init__(self, track: Track, prefixes: TokenPrefixes) -> None:
        """Begin without knowing anything; `prefixes` are of the member's tokens."""
        self._track, self._prefixes = track, prefixes
        self._num_before = 0
        """The tokens before the boundary."""
        self.opened = b""
        """The bytes behind it."""
        self.own_path: Path = ()
        """The member's own tokens for them, as far as it has any."""
        self.known: dict[Path, Tensor] = {}
        """The member's probs `(num_logits,)` after paths from the boundary that agree with the open bytes."""

    @property
    def max_length(self) -> int:
        """The most tokens of a path that the member's context has room for."""
        return self._track.member.context_length - self._num_before

    def move(self, probs: Tensor) -> None:
        """Find the boundary of the text as it is; `probs` `(num_logits,)` are what the member says behind all of it."""
        alignment = self._track.alignment
        count, self.opened = alignment.open_tail(self._prefixes)
        begin = len(alignment.ids) - count
        before = self._num_before
        if before <= begin and before <= alignment.num_unchanged:
            self.known = dict(self._keep(tuple(alignment.ids[before:begin])))
        else:
            self.known = {}
        self._num_before, alignment.num_unchanged = begin, len(alignment.ids)
        self.own_path = tuple(alignment.ids[begin:])
        self.known[self.own_path] = probs

    def branch(self, path: Path) -> Branch:
        """What `Member.peek` needs to say what comes after a path."""
        track, before = self._track, self._num_before
        if path:
            return track.row, track.num_fed - before, path
        return track.row, track.num_fed - before + 1, track.alignment.ids[before - 1 : before]

    def _keep(self, passed: Path) -> Iterator[tuple[Path, Tensor]]:
        """What is known after paths that went along with the text, with these tokens cut off."""
        for path, said in self.known.items():
            rest = path[len(passed) :]
            if path[: len(passed)] == passed and self._agrees(rest):
                # A row of a batch would keep the whole batch in memory.
                yield rest, said if said.untyped_storage().nbytes() == said.nbytes else said.clone()

    def _agrees(self, path: Path) -> bool:
        """Whether a path may lie on the way through the open bytes, or behind them."""
        text = self._track.member.vocabulary.join(path)
        return text.startswith(self.opened) or self.opened.startswith(text)
