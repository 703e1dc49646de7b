"""Tables kept between runs: one safetensors file a member, under a key made of everything that they depend on."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

logger = logging.getLogger(__name__)

FORMAT = "deepen_llm relative rows 1"
HASH_BYTES = 1 << 26
"""How much of a tensor is hashed, or summed up, at a time."""


def default_folder() -> Path | None:
    """Where tables are kept: `DEEPEN_CACHE` (a folder, or "off"), else `deepen_llm` in the user's cache folder.

    None, as for "off", for a user without a home folder, as some containers have.
    """
    named = os.environ.get("DEEPEN_CACHE")
    if named is not None:
        return None if named.strip().lower() in ("", "off") else Path(os.path.expanduser(named))  # noqa: PTH111
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/.cache")  # noqa: PTH111
    return None if base.startswith("~") else Path(base) / "deepen_llm"


def make_key(parts: Mapping[str, Tensor | str | int | float | None]) -> str:
    """A hexadecimal digest that changes with any name, dtype, shape or value, and not with the order of the parts."""
    digest = hashlib.sha256()
    for name in sorted(parts):
        part = parts[name]
        if isinstance(part, Tensor):
            digest.update(f"{name}: {part.dtype} {tuple(part.shape)}\n".encode())
            for tile in _tiles(part):
                digest.update(tile)
        else:
            digest.update(f"{name}: {part!r}\n".encode())
    return digest.hexdigest()


@final
class TableStore:
    """A folder of tables. Files appear whole or not at all, so several processes may write the same one."""

    def __init__(self, folder: Path) -> None:
        """The folder is made when something is first saved."""
        self._folder = folder

    @staticmethod
    def key(parts: Mapping[str, Tensor | str | int | float | None]) -> str:
        """The key of tables that depend on these parts."""
        return make_key(parts)

    def path(self, key: str) -> Path:
        """The file of a key."""
        return self._folder / f"relative-{key[:32]}.safetensors"

    def load(self, key: str) -> dict[str, Tensor] | None:
        """The tables of a key, copied into memory; None where there are none, or where their file is damaged."""
        path = self.path(key)
        try:
            if not path.is_file():
                return None
            with safe_open(path, framework="pt") as file:
                kept = file.metadata() or {}
                tables = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (OSError, SafetensorError) as error:
            logger.warning("%s cannot be read (%s): it is made again", path, error)
            return None
        if kept.get("format") != FORMAT or kept.get("key") != key:
            return None
        if kept.get("checksum") != _checksum(tables):
            logger.warning("%s is damaged: it is made again", path)
            return None
        return tables

    def save(self, key: str, tables: Mapping[str, Tensor]) -> None:
        """Keep tables. Where that fails, a warning is all that happens: they are made again at the next start."""
        path, kept = self.path(key), {name: table.cpu().contiguous() for name, table in tables.items()}
        metadata = {"format": FORMAT, "key": key, "checksum": _checksum(kept)}
        unfinished: Path | None = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._folder, prefix="unfinished-", suffix=".safetensors")
            os.close(handle)
            unfinished = Path(name)
            save_file(kept, unfinished, metadata=metadata)
            with unfinished.open("rb") as file:
                os.fsync(file.fileno())
            unfinished.replace(path)
        except (OSError, ValueError, SafetensorError) as error:
            if unfinished is not None:
                unfinished.unlink(missing_ok=True)
            logger.warning(
                "tables cannot be kept in %s (%s) and are made again at the next start: set DEEPEN_CACHE to a folder "
                "that can be written to, or to off",
                self._folder,
                error,
            )


def _checksum(tables: Mapping[str, Tensor]) -> str:
    total = 0
    for name in sorted(tables):
        total = zlib.crc32(name.encode(), total)
        for tile in _tiles(tables[name]):
            total = zlib.crc32(tile, total)
    return f"{total:08x}"


def _tiles(tensor: Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor, in tiles."""
    rows = tensor.detach().reshape(-1)
    count = HASH_BYTES // rows.element_size()
    for start in range(0, len(rows), count):
        yield rows[start : start + count].cpu().contiguous().view(torch.uint8).numpy().data
