"""Where words begin and go on in a text that comes token by token.

Letters, digits, marks and apostrophes that stand together are one word, everything else is a word by itself; so is
every character of a script that does not write words apart. A character whose bytes are not complete goes on.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from typing import final

import torch
from torch import Tensor

from deepen_llm.vocabulary.vocabulary import Vocabulary

APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}"
UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # kana
    (0x3400, 0x9FFF),  # ideographs
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
"""Scripts that do not write words apart."""
LETTER_BYTES = (*range(0xC3, 0xE2), *range(0xEA, 0xEE))
"""First bytes of characters that are mostly letters of words, for tokens that hold no more of one."""
LONGEST_CHARACTER = 4


class Place(IntEnum):
    """Where a text stands."""

    BETWEEN = 0
    """Whatever comes begins anew."""
    IN_CHARACTER = 1
    """Only the rest of a character goes on."""
    IN_WORD = 2
    """What a word is made of goes on."""


@final
class TextEnd:
    """The end of a text, as far as it says what goes on."""

    def __init__(self, text: str = "") -> None:
        self._tail = text[-1:].encode("utf-8", "replace")

    @property
    def place(self) -> Place:
        """Where the text stands."""
        for length in range(1, min(len(self._tail), LONGEST_CHARACTER) + 1):
            byte = self._tail[-length]
            if byte & 0xC0 != 0x80:
                return _place_after(self._tail[-length:])
        return Place.BETWEEN

    def push(self, token: bytes) -> None:
        """Go on with a token's bytes."""
        self._tail = (self._tail + token)[-LONGEST_CHARACTER:]


def split_words(text: str) -> list[int]:
    """Where each word of a text ends, in bytes of UTF-8: ascending, the last one is the text's own end."""
    ends: list[int] = []
    position, place = 0, Place.BETWEEN
    for character in text:
        encoded = character.encode("utf-8", "replace")
        if position and not goes_on(encoded, place):
            ends.append(position)
        position, place = position + len(encoded), _place_after(encoded)
    return [*ends, position] if position else []


def find_beginnings(vocabulary: Vocabulary) -> Tensor:
    """For every place of a text the tokens with which a new word begins: `(len(Place), num_logits)` float32 of 0 and 1.

    End-of-sequence begins anew, wherever the text stands.
    """
    rows = [[not (token and goes_on(token, place)) for token in vocabulary.tokens] for place in Place]
    with torch.inference_mode(mode=False):
        return torch.tensor(rows, dtype=torch.float32)


def goes_on(token: bytes, place: Place) -> bool:
    """Whether a token goes on with the word, or the character, that is open."""
    if place == Place.BETWEEN:
        return False
    if token[0] & 0xC0 == 0x80:
        return True
    if place == Place.IN_CHARACTER:
        return False
    character = _first_character(token)
    return token[0] in LETTER_BYTES if character is None else _is_of_word(character)


def _place_after(character: bytes) -> Place:
    """The place after the bytes of a character, maybe not all of them."""
    try:
        text = character.decode()
    except UnicodeDecodeError:
        return Place.IN_CHARACTER if _is_incomplete(character) else Place.BETWEEN
    return Place.IN_WORD if _is_of_word(text) else Place.BETWEEN


def _first_character(token: bytes) -> str | None:
    """The first character of a token; None where the token holds only some of its bytes, or none."""
    for length in range(1, min(len(token), LONGEST_CHARACTER) + 1):
        try:
            return token[:length].decode()
        except UnicodeDecodeError:
            continue
    return None


def _is_incomplete(character: bytes) -> bool:
    sizes: Sequence[tuple[int, int]] = ((0xF0, 4), (0xE0, 3), (0xC2, 2))
    return len(character) < next((size for first, size in sizes if character[0] >= first), 1)


@lru_cache(maxsize=1 << 12)
def _is_of_word(character: str) -> bool:
    code = ord(character)
    if any(first <= code <= last for first, last in UNSPACED):
        return unicodedata.category(character).startswith("M")
    return character.isalnum() or character in APOSTROPHES or unicodedata.category(character).startswith("M")
