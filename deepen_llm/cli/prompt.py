"""The prompt of a command: what was typed, or the standard input."""

from __future__ import annotations

import sys

import typer

MAX_CHARACTERS = 20_000_000
"""Of the standard input, which may have no end; what a context holds is far less, and refused by the members."""


def read_prompt(given: str) -> str:
    """The prompt itself; for "-" the standard input, without one newline at its end.

    Raises:
        typer.BadParameter: The standard input is closed, no text in its encoding, or too long.
    """
    if given != "-":
        return given
    if sys.stdin is None:
        raise typer.BadParameter("the prompt '-' is the standard input, which is closed: give the prompt itself")
    try:
        text = sys.stdin.read(MAX_CHARACTERS + 1)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"the standard input must be text ({sys.stdin.encoding}): {error}") from error
    if len(text) > MAX_CHARACTERS:
        raise typer.BadParameter(f"the standard input must be at most {MAX_CHARACTERS:,} characters; it goes on")
    return text.removesuffix("\n")
