"""Where a member's text was last at one of its own token boundaries, and what it has said since then."""

from __future__ import annotations

from typing import final

from torch import Tensor

from deepen_llm.decoding.track import Track
from deepen_llm.reading.reader import Path, TextReader


@final
class Boundary:
    """One track's last boundary: a member is asked there, with the bytes since then still open."""

    def __init__(self, track: Track, reader: TextReader) -> None:
        self._track, self._reader = track, reader
        self._ids: list[int] = []
        """The tokens before the boundary."""
        self.opened = b""
        """The bytes behind it."""
        self.known: dict[Path, Tensor] = {}
        """The member's probs `(num_logits,)` after paths from the boundary."""

    def move(self, probs: Tensor) -> None:
        """Find the boundary of the text as it is; `probs` `(num_logits,)` are what the member says behind all of it."""
        ids = self._track.alignment.ids
        count, self.opened = self._track.alignment.open_tail(self._reader.prefixes)
        begin = len(ids) - count
        passed = tuple(ids[len(self._ids) : begin])
        if ids[: len(self._ids)] == self._ids:
            num = len(passed)
            self.known = {path[num:]: said for path, said in self.known.items() if path[:num] == passed}
        else:
            self.known = {}
        self._ids = ids[:begin]
        self.known[tuple(ids[begin:])] = probs

    def branch(self, path: Path) -> tuple[int, int, list[int]]:
        """What `Member.peek` needs to say what comes after a path."""
        num_fed = self._track.num_fed
        num_kept = len(self._ids)
        if path:
            return self._track.row, num_fed - num_kept, list(path)
        return self._track.row, num_fed - num_kept + 1, self._ids[-1:]
