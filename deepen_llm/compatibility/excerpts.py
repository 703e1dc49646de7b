"""Excerpts from the whole of a text file, however large it is, without reading all of it."""

from __future__ import annotations

from pathlib import Path

EXCERPT_BYTES = 1000
"""About the size of one; a text much shorter would be scored with hardly anything before it."""
MOST_CUT_OFF = 3
"""Of a character in UTF-8, so many bytes may be missing where an excerpt begins or ends."""


def read_excerpts(path: Path, max_bytes: int, *, excerpt_bytes: int = EXCERPT_BYTES) -> list[str]:
    """A file whole and exactly as it is where it has at most `max_bytes`, else pieces of it, evenly spread.

    A piece begins after the end of a line, or else after a space, and ends before one, where that costs no more than
    a quarter of it on either side. The pieces have `max_bytes` together at most; the same file gives the same ones.

    Raises:
        OSError: The file cannot be read.
        UnicodeDecodeError: What was read of it is not UTF-8.
    """
    size = path.stat().st_size
    if size <= max_bytes:
        return [path.read_bytes().decode("utf-8")]
    num_pieces = max(1, max_bytes // excerpt_bytes)
    length = min(excerpt_bytes, max_bytes)
    step = (size - length) / max(1, num_pieces - 1)
    with path.open("rb") as file:
        pieces = []
        for number in range(num_pieces):
            begin = int(number * step)
            file.seek(begin)
            pieces.append(_trim(file.read(length), is_start=begin == 0, is_end=begin + length >= size))
    return pieces


def _trim(data: bytes, *, is_start: bool, is_end: bool) -> str:
    """The text from a line's beginning to a line's end, else from word to word, else from character to character."""
    if not is_start:
        cut_off = next((at for at, byte in enumerate(data[: MOST_CUT_OFF + 1]) if byte & 0xC0 != 0x80), 0)
        data = data[cut_off:]
    text = _decode(data, is_end=is_end)
    early, late = len(text) // 4, len(text) - len(text) // 4
    begin = 0 if is_start else next((at + 1 for mark in "\n " if (at := text.find(mark, 0, early)) >= 0), 0)
    end = len(text) if is_end else next((at for mark in "\n " if (at := text.rfind(mark, late)) >= 0), len(text))
    return text[begin:end]


def _decode(data: bytes, *, is_end: bool) -> str:
    """UTF-8, without a last character that is cut off unless the file ends with it."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if is_end or error.reason != "unexpected end of data":
            raise
        return data[: error.start].decode("utf-8")
