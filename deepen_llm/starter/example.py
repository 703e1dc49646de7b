"""One training example: a context and the questions asked about it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Example:
    """Questions with their answers, asked after a context that may be empty.

    `kind` names the kind of text ("capitals", "elements", "arithmetic", "reading", "chat",
    "copy", "prose"). For "prose" there are no questions and the context is the text itself.
    """

    kind: str
    context: str = ""
    turns: tuple[tuple[str, str], ...] = field(default=())
