"""The header of a GGUF file: settings, and which tensor lies where; read before llama.cpp sees the file.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3. llama.cpp ends the process on some damaged
files; what can be told from the header is told here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, final

from deepen_llm.errors import quote

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_SETTINGS = 100_000
MAX_TENSORS = 1_000_000
MAX_STRING = 1 << 24
"""The longest text that is read, in bytes: a chat template may have some ten thousand."""
MAX_ENTRIES = 1 << 24
"""The most entries of a list; a vocabulary has some hundred thousand, and as many merges."""
MAX_KEPT = 1 << 12
"""Longer lists are checked and not kept: llama.cpp reads them itself."""
MAX_DIMS = 4
TOKENS = "tokenizer.ggml.tokens"
STRING, LIST = 8, 9
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""The kinds of numbers, as `struct` calls them."""


@final
@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies."""

    shape: tuple[int, ...]
    """The innermost dimension first."""
    type: int
    """The number format, a `ggml_type`."""
    offset: int
    """Bytes from the beginning of the file."""


@final
@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself."""

    path: Path
    num_bytes: int
    """Of the file."""
    settings: dict[str, Any]
    """Texts, numbers, truth values, and lists of numbers that are not too long."""
    tensors: dict[str, TensorInfo]

    @classmethod
    def read(cls, path: Path) -> Header:
        """Read it.

        Raises:
            ValueError: No GGUF file, one that is damaged or cut short, or of an unknown version.
            OSError: The file cannot be read.
        """
        with path.open("rb") as file:
            return _Reader(file, path).read()

    @property
    def architecture(self) -> str:
        """Such as "llama"; empty where the file does not say."""
        return str(self.settings.get("general.architecture", ""))

    def number(self, name: str, default: Any = None) -> Any:
        """A setting of the architecture, such as "block_count"."""
        return self.settings.get(f"{self.architecture}.{name}", default)


@final
class _Reader:
    """Reads a header from its beginning to its end."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._num_bytes = path.stat().st_size

    def read(self) -> Header:
        if self._take(4) != MAGIC:
            self._refuse("it does not begin with 'GGUF': this is no GGUF file, give one that is")
        version = self._number("I")
        if version not in VERSIONS:
            self._refuse(f"GGUF has the versions 2 and 3, and this says {version}: convert the model anew")
        num_tensors, num_settings = self._number("Q"), self._number("Q")
        if num_tensors > MAX_TENSORS or num_settings > MAX_SETTINGS:
            self._refuse(f"it says that it has {num_tensors:,} tensors and {num_settings:,} settings: fetch it anew")
        settings = dict(self._setting() for _ in range(num_settings))
        alignment = settings.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 8 <= alignment <= 1 << 20 or alignment & (alignment - 1):
            self._refuse(f"general.alignment must be a power of two; got {quote(alignment)}: fetch it anew")
        tensors = dict(self._tensor() for _ in range(num_tensors))
        if len(tensors) < num_tensors or len(settings) < num_settings:
            self._refuse("it has two tensors or two settings of one name: fetch it anew")
        begin = -(-self._file.tell() // alignment) * alignment
        placed = {
            name: TensorInfo(one.shape, one.type, begin + one.offset)
            for name, one in tensors.items()
            if one.offset % alignment == 0 or self._refuse(f"tensor {quote(name)} is not aligned: fetch it anew")
        }
        return Header(self._path, self._num_bytes, settings, placed)

    def _setting(self) -> tuple[str, Any]:
        name, kind = self._text(), self._number("I")
        return name, self._tokens() if name == TOKENS and kind == LIST else self._value(kind)

    def _tokens(self) -> int:
        """How many tokens the vocabulary has, no two of them the same: llama.cpp ends the process over those."""
        kind, num = self._number("I"), self._number("Q")
        if kind != STRING or num > MAX_ENTRIES:
            self._refuse(f"{TOKENS} must be a list of texts: fetch it anew")
        if len({self._take(self._size()) for _ in range(num)}) < num:
            self._refuse(f"{TOKENS} has the same token twice: fetch it anew")
        return int(num)

    def _value(self, kind: int) -> Any:
        if kind in NUMBERS:
            return self._number(NUMBERS[kind])
        if kind == STRING:
            return self._text()
        if kind != LIST:
            self._refuse(f"a setting is of the unknown kind {kind}: fetch it anew")
        kind, num = self._number("I"), self._number("Q")
        if num > MAX_ENTRIES:
            self._refuse(f"a list says that it has {num:,} entries: fetch it anew")
        if kind == STRING:
            for _ in range(num):
                self._skip(self._size())
            return None
        if kind not in NUMBERS:
            self._refuse(f"a list holds entries of the unknown kind {kind}: fetch it anew")
        size = struct.calcsize("<" + NUMBERS[kind])
        if num > MAX_KEPT:
            self._skip(num * size)
            return None
        return struct.unpack(f"<{num}{NUMBERS[kind]}", self._take(num * size))

    def _tensor(self) -> tuple[str, TensorInfo]:
        name, num_dims = self._text(), self._number("I")
        if not 1 <= num_dims <= MAX_DIMS:
            self._refuse(f"tensor {quote(name)} has {num_dims} dimensions, where 1 to {MAX_DIMS} can be: fetch it anew")
        shape = tuple(self._number("Q") for _ in range(num_dims))
        kind, offset = self._number("I"), self._number("Q")
        if not 0 < prod(shape) < 1 << 50 or offset > self._num_bytes:
            self._refuse(f"tensor {quote(name)} of shape {shape} cannot lie in it: fetch it anew")
        return name, TensorInfo(shape, kind, offset)

    def _text(self) -> str:
        return self._take(self._size()).decode("utf-8", "replace")

    def _size(self) -> int:
        size: int = self._number("Q")
        if size > MAX_STRING:
            self._refuse(f"a text says that it has {size:,} bytes: fetch it anew")
        return size

    def _number(self, form: str) -> Any:
        return struct.unpack("<" + form, self._take(struct.calcsize("<" + form)))[0]

    def _take(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            self._refuse_short()
        return data

    def _skip(self, size: int) -> None:
        if size > self._num_bytes - self._file.tell():
            self._refuse_short()
        self._file.seek(size, 1)

    def _refuse_short(self) -> NoReturn:
        self._refuse(f"it ends within its header, after {self._num_bytes:,} bytes: fetch it anew")

    def _refuse(self, problem: str) -> NoReturn:
        raise ValueError(f"{self._path.name}: {problem}")
