"""How a tokenizer writes bytes into the strings of its tokens, read from the tokenizer's own parts.

Two notations can be read. *Byte-level*: each byte is one visible character, by the table of GPT-2 (Radford et al. 2019,
released code). *SentencePiece* (Kudo and Richardson 2018): `▁` is a space and `<0xNN>` a byte, everything else is text.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from tokenizers import Tokenizer

from deepen_llm.errors import VocabularyError
from deepen_llm.vocabulary.parts import SPACE_MARK, describe_part, walk_parts

Notation = Literal["byte-level", "sentencepiece"]

BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def build_byte_table() -> dict[str, int]:
    """The 256 characters of the byte-level notation: visible Latin-1 stands for itself, the rest follow from U+0100."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(0x100 + rank): byte for rank, byte in enumerate(hidden)}


BYTE_TABLE = build_byte_table()


def read_piece(piece: str, notation: Notation) -> bytes:
    """The bytes that a token string stands for; a piece outside the byte-level table is plain text."""
    if notation == "byte-level":
        try:
            return bytes(map(BYTE_TABLE.__getitem__, piece))
        except KeyError:
            return piece.encode("utf-8", "replace")
    match = BYTE_PIECE.fullmatch(piece)
    return bytes((int(match[1], 16),)) if match else piece.replace(SPACE_MARK, " ").encode("utf-8", "replace")


def detect_notation(backend: Tokenizer, name: str) -> Notation:
    """Which notation the tokenizer uses, from its model, normalizer, pre-tokenizer and decoder.

    Raises:
        VocabularyError: The tokens cannot be read as bytes.
    """
    kind = type(backend.model).__name__
    if kind not in ("BPE", "Unigram"):
        raise _unreadable(name, f"it is a {kind} tokenizer, whose tokens do not keep the spaces of the text")
    for affix in ("continuing_subword_prefix", "end_of_word_suffix"):
        if getattr(backend.model, affix, None):
            raise _unreadable(name, f"its tokens carry a {affix} {getattr(backend.model, affix)!r} in place of spaces")
    named = [describe_part(part) for part in (backend.normalizer, backend.pre_tokenizer, backend.decoder)]
    parts = [inner for part in named for inner in walk_parts(part)]
    if any(part["type"] == "ByteLevel" for part in parts):
        return "byte-level"
    if any(_marks_spaces(part) for part in parts):
        return "sentencepiece"
    raise _unreadable(name, f"it is a {kind} tokenizer that names no rule for bytes or spaces")


def _marks_spaces(part: dict[str, Any]) -> bool:
    """Whether this part turns spaces into `▁` or back, or pieces `<0xNN>` into bytes."""
    if part["type"] == "Replace":
        return SPACE_MARK in (part["content"], part["pattern"].get("String"))
    return part["type"] == "ByteFallback" or part.get("replacement") == SPACE_MARK


def _unreadable(name: str, reason: str) -> VocabularyError:
    return VocabularyError(
        f"the tokens of {name!r} must be readable as bytes, but {reason}: "
        "use a model with a byte-level BPE, SentencePiece or tiktoken tokenizer"
    )
