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

    def __init__(self, *, drop_leading_space: bool = False) -> None:
        """A new sequence; `drop_leading_space` drops one space at the very beginning.

        That is for a main model of the SentencePiece kind whose answer begins a text: its first token then carries the
        tokenizer's dummy space.
        """
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._drops_space = drop_leading_space

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
        if not self._drops_space or not text:
            return text
        self._drops_space = False
        return text.removeprefix(" ")
