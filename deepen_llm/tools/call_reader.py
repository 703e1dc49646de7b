"""An answer that may hold tool calls, read piece by piece: text at once, calls as a name and pieces of arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from deepen_llm.decoding.stopping import StopMatcher
from deepen_llm.tools.calls import Call

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


def is_call(text: str) -> bool:
    """Whether an answer that begins so is calls: no text of a `ToolSet` begins with a brace."""
    return text.startswith("{")


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
            self._is_text = not is_call(text)
        if self._is_text:
            released = self._text.push(text)
            return released + (self._text.flush() if is_last else ""), []
        *lines, rest = text.split("\n")
        pieces = []
        for line in lines:
            pieces += [*self._push_call(line), *self._end_call()]
        pieces += self._push_call(rest)
        return "", _one_a_call(pieces + self._end_call() if is_last else pieces)

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string cut the text."""
        return self._text.is_matched

    @property
    def is_whole(self) -> bool:
        """Whether the answer is calls, and all of them are whole."""
        return bool(self.calls) and all(call.is_whole for call in self.calls)

    def _push_call(self, text: str) -> list[CallPiece]:
        """A piece of a line."""
        if not text:
            return []
        self._held += text
        if not self.calls or self.calls[-1].is_whole:
            self.calls.append(Call(len(self.calls)))
        call = self.calls[-1]
        pieces = []
        if call.name is None:
            head = _HEAD.match(self._held)
            if head is None:
                return []
            call.name, self._held = json.loads(head.group(1)), self._held[head.end() :]
            pieces.append(CallPiece(call.index, "", call.id, call.name))
        # The last brace may be the one that closes the call, and is no part of the arguments.
        ready = len(self._held) - self._held.endswith("}")
        given, self._held = self._held[:ready], self._held[ready:]
        call.arguments += given
        return [*pieces, CallPiece(call.index, given)] if given else pieces

    def _end_call(self) -> list[CallPiece]:
        """A line is over."""
        if not self.calls or self.calls[-1].is_whole:
            return []
        call, held, self._held = self.calls[-1], self._held, ""
        call.is_whole = call.name is not None and held == "}" and _is_object(call.arguments)
        if call.is_whole or not held:
            return []
        call.arguments += held
        return [CallPiece(call.index, held, None if call.name else call.id)]


def _one_a_call(pieces: list[CallPiece]) -> list[CallPiece]:
    """The pieces with those of one call joined."""
    joined: list[CallPiece] = []
    for piece in pieces:
        if joined and joined[-1].index == piece.index:
            joined[-1].arguments += piece.arguments
        else:
            joined.append(piece)
    return joined


def _is_object(text: str) -> bool:
    """Whether the text is a whole JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
