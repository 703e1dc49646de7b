"""Token bytes into text, released in whole characters only."""

from __future__ import annotations

import codecs
from typing import final


@final
class Detokenizer:
    """One sequence's bytes as they come, and the text they make.

    The pieces join to `all_bytes.decode("utf-8", "replace")`: bytes that can no longer become a character come out as
    U+FFFD as soon as that is known, bytes that still can are held.
    """

    def __init__(self, *, num_spaces: int = 0) -> None:
        """A new sequence, of which so many spaces at the very beginning are dropped, as far as they come.

        That is for a main model whose answer begins with spaces that are no part of it: the dummy space of tokenizers
        of the SentencePiece kind, and the one that a chat template has there.
        """
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._num_spaces = num_spaces
        """Those that may still be dropped."""

    @property
    def open_bytes(self) -> bytes:
        """The bytes of a character that is not complete yet: none to three."""
        return self._decoder.getstate()[0]

    def push(self, token_bytes: bytes) -> str:
        """Take a token's bytes; the text that is complete with them, maybe empty."""
        return self._trim(self._decoder.decode(token_bytes))

    def flush(self) -> str:
        """End the sequence: what bytes are still held come out as U+FFFD."""
        return self._trim(self._decoder.decode(b"", final=True))

    def _trim(self, text: str) -> str:
        if not self._num_spaces or not text:
            return text
        num_dropped = min(len(text) - len(text.lstrip(" ")), self._num_spaces)
        self._num_spaces = self._num_spaces - num_dropped if num_dropped == len(text) else 0
        return text[num_dropped:]
