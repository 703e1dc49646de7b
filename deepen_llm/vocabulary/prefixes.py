"""Which tokens begin with given bytes."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import final


@final
class TokenPrefixes:
    """A vocabulary's tokens in the order of their bytes, in which those that begin alike are neighbours."""

    def __init__(self, tokens: Sequence[bytes | None]) -> None:
        """`tokens` are indexed by id; None and empty tokens do not count."""
        pairs = sorted((token, token_id) for token_id, token in enumerate(tokens) if token)
        self._tokens = [token for token, _ in pairs]
        self.ids = [token_id for _, token_id in pairs]
        """Token ids in the order of their bytes."""
        self.longest = max(map(len, self._tokens), default=0)
        """Bytes of the longest token."""

    def beginning_with(self, prefix: bytes) -> range:
        """The places in `ids` of the tokens that begin with the bytes, those that are the bytes included."""
        begin = bisect_left(self._tokens, prefix)
        after = prefix.rstrip(b"\xff")
        if not after:
            return range(begin, len(self.ids))
        return range(begin, bisect_left(self._tokens, after[:-1] + bytes((after[-1] + 1,))))

    def has_longer(self, text: bytes) -> bool:
        """Whether a token begins with the bytes and goes on."""
        place = bisect_right(self._tokens, text)
        return place < len(self._tokens) and self._tokens[place].startswith(text)

    def ids_of(self, text: bytes) -> list[int]:
        """The tokens that are the bytes."""
        return self.ids[bisect_left(self._tokens, text) : bisect_right(self._tokens, text)]
