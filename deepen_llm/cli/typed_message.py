"""What a user types as one message: a line, or several."""

from __future__ import annotations

import contextlib
import sys

from deepen_llm.errors import PromptError

MAX_CHARACTERS = 1_000_000
"""Of a line that comes from a pipe or a file, which may have no end."""
GOES_ON = "\\"
"""At the end of a line: the message goes on in the next one."""
BLOCK = '"""'
"""Before and after a message of several lines."""


def read_message() -> str | None:
    """The next message without outer spaces; None at the end of the input.

    Raises:
        KeyboardInterrupt: Ctrl-C; what was typed of the message is dropped.
        PromptError: The input is no text, or has a line without an end.
    """
    line = read_line("> ")
    if line is None:
        return None
    if line.lstrip().startswith(BLOCK):
        return _read_block(line.lstrip().removeprefix(BLOCK))
    lines = []
    while line is not None and line.endswith(GOES_ON):
        lines.append(line.removesuffix(GOES_ON))
        line = read_line("... ")
    return "\n".join([*lines, line or ""]).strip()


def _read_block(line: str | None) -> str:
    """Lines up to the closing mark, or to the end of the input."""
    lines = []
    while line is not None and not line.rstrip().endswith(BLOCK):
        lines.append(line)
        line = read_line("... ")
    return "\n".join([*lines, (line or "").rstrip().removesuffix(BLOCK)]).strip()


def read_line(mark: str) -> str | None:
    """One line, with editing and a mark before it where a terminal is read; None at the end of the input."""
    if sys.stdin is None:
        return None
    try:
        if sys.stdin.isatty():
            return input(mark)
        line = sys.stdin.readline(MAX_CHARACTERS + 1)
    except EOFError:
        return None
    except (OSError, ValueError) as error:
        raise PromptError(f"the standard input must be text ({sys.stdin.encoding}): {error}") from error
    if len(line) > MAX_CHARACTERS:
        raise PromptError(f"a line of the standard input must have at most {MAX_CHARACTERS:,} characters")
    return line.rstrip("\n") if line else None


def use_line_editing() -> None:
    """Arrow keys and history in `read_line`, where the platform has them."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401
