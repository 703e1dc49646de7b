"""An answer that may hold tool calls, read piece by piece: text at once, calls as a name and pieces of arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from deepen_llm.decoding.stopping import StopMatcher
from deepen_llm.frontends.tools.calls import Call

_HEAD = re.compile(r'\{"name": ("(?:[^"\\]|\\.)*"), "arguments": ')


@final
@dataclass(slots=True)
class CallPiece:
    """A piece of one call. The first one alone has its id and its name, for those who join them."""

    index: int
    arguments: str
    """More of the arguments' JSON."""
    id: str | None = None
    name: str | None = None
    """None in the first piece too, where the answer was cut within it."""


@final
class CallReader:
    """Follows one answer. What begins with a brace is calls, a line each; anything else is text."""

    def __init__(self, stop: Sequence[str] = ()) -> None:
        """`stop` cuts a text, and no call."""
        self.calls: list[Call] = []
        self._text = StopMatcher(stop)
        self._is_text: bool | None = None
        self._held = ""

    def push(self, text: str, *, is_last: bool = False) -> tuple[str, list[CallPiece]]:
        """Add text; return the text and the pieces of calls, one a call, that can be given away.

        With the last text comes what was held back; a call that is not whole then stays so.
        """
        if self._is_text is None and text:
            self._is_text = not text.startswith("{")
        if self._is_text:
            released = self._text.push(text)
            return released + (self._text.flush() if is_last else ""), []
        *whole, rest = text.split("\n")
        pieces = [self._push_line(line, is_end=True) for line in whole] + [self._push_line(rest, is_end=is_last)]
        return "", [piece for piece in pieces if piece is not None]

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string cut the text."""
        return self._text.is_matched

    @property
    def is_whole(self) -> bool:
        """Whether the answer is calls, and all of them are whole."""
        return bool(self.calls) and all(call.is_whole for call in self.calls)

    def _push_line(self, text: str, *, is_end: bool) -> CallPiece | None:
        """Add a piece of a line, the last one at its end; return what can be given away of its call."""
        self._held += text
        if self._held and (not self.calls or self.calls[-1].is_whole):
            self.calls.append(Call(len(self.calls)))
        if not self._held:
            return None
        call = self.calls[-1]
        is_nameless = call.name is None
        if is_nameless and (head := _HEAD.match(self._held)):
            call.name, self._held = json.loads(head.group(1)), self._held[head.end() :]
        if call.name is None and not is_end:
            return None
        # The last brace may be the one that closes the call, and is no part of the arguments.
        given, brace = (self._held[:-1], "}") if self._held.endswith("}") else (self._held, "")
        if is_end:
            call.is_whole = bool(call.name and brace) and _is_object(call.arguments + given)
            given, brace = given if call.is_whole else self._held, ""
        call.arguments, self._held = call.arguments + given, brace
        if not (given or is_nameless):
            return None
        return CallPiece(call.index, given, call.id, call.name) if is_nameless else CallPiece(call.index, given)


def _is_object(text: str) -> bool:
    """Whether the text is a whole JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
