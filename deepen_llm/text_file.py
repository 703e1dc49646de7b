"""Files that a user names: read whole and within a limit, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from deepen_llm.errors import ConfigError

MAX_BYTES = 200_000_000
"""Of a text to read or questions to ask; reading as much takes a second and under 1 GB."""
MAX_SETTINGS_BYTES = 2_000_000
"""Of what is parsed: settings, a schema, a grammar, a task."""


def read_text(path: str | Path, what: str, *, max_bytes: int = MAX_BYTES) -> str:
    """The text of a file or a pipe, in UTF-8; of one without an end no more than the limit is read.

    Args:
        path: Where it lies.
        what: What the file is, for the message: "a task file", "--json-schema".
        max_bytes: It may be so large.

    Raises:
        ConfigError: There is no such file, it cannot be read, is a folder, too large, or no text in UTF-8.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:  # a ValueError: no path has a NUL
        raise _unreadable(path, what, _reason(error)) from error
    if len(data) > max_bytes:
        raise _unreadable(path, what, f"it has more than {max_bytes:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unreadable(path, what, f"byte {error.start:,} is not UTF-8") from error


def check_readable(path: Path, what: str) -> None:
    """Find out before seconds of loading that there is no such file, or none to be read. Raises as `read_text`."""
    try:
        if not path.is_fifo():  # whoever writes to it may do so once
            path.open("rb").close()
    except (OSError, ValueError) as error:
        raise _unreadable(path, what, _reason(error)) from error


def check_writable(path: Path, option: str) -> None:
    """Find out before minutes of work that a file has nowhere to go.

    Raises:
        ConfigError: It is a folder, its own folder is not there or takes no new file, or no file can have that name.
    """
    try:
        is_there = os.access(path, os.F_OK)
        if path.is_dir() or not path.parent.is_dir():
            raise ConfigError(f"{option} must name a file in a folder that exists; got {str(path)!r}: give another one")
        if not os.access(path if is_there else path.parent, os.W_OK):
            raise ConfigError(f"{option} must name a file that can be written; {str(path)!r} cannot: give another one")
    except (OSError, ValueError) as error:
        raise _unwritable(path, option, error) from error


def write_text(path: Path, text: str, option: str) -> None:
    """Write a text in UTF-8 over what was there, which stays as it is where that fails.

    Raises:
        ConfigError: The file cannot be written, or the disk is full.
    """
    # What no UTF-8 can hold, such as a broken character of a prompt, is spelt out: also inside JSON it is read back.
    data = text.encode("utf-8", "backslashreplace")
    try:
        target = path.resolve()
        if target.exists() and not target.is_file():  # a pipe or a device is written to, not replaced
            target.write_bytes(data)
            return
        unfinished = target.with_name(f".{os.getpid()}.unfinished")
        try:
            unfinished.write_bytes(data)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise _unwritable(path, option, error) from error


def _unreadable(path: str | Path, what: str, reason: str) -> ConfigError:
    return ConfigError(f"{what} cannot be read: {reason}: {str(path)!r}; give a file of text in UTF-8")


def _unwritable(path: Path, option: str, error: OSError | ValueError) -> ConfigError:
    return ConfigError(f"{option} cannot be written: {_reason(error)}: {str(path)!r}; give another file")


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
