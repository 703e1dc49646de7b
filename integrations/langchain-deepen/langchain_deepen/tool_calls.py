"""An answer that may hold tool calls, read piece by piece: text at once, calls as a name and pieces of arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final
from uuid import uuid4

from langchain_core.messages import AIMessage, InvalidToolCall, ToolCall, ToolCallChunk

from deepen_llm.decoding.stopping import StopMatcher

_HEAD = re.compile(r'\{"name": ("(?:[^"\\]|\\.)*"), "arguments": ')


def write_calls(message: AIMessage) -> list[str]:
    """The calls of a message, a line each, as the models write them; those that were cut as far as they came."""
    return [write_call(call["name"], call["args"]) for call in message.tool_calls] + [
        _head(cut["name"] or "") + (cut["args"] or "") for cut in message.invalid_tool_calls
    ]


def write_call(name: str, arguments: Mapping[str, Any]) -> str:
    """One call as the models read and write it."""
    return _head(name) + json.dumps(arguments, ensure_ascii=False, default=str) + "}"


def _head(name: str) -> str:
    return f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": '


@dataclass
class Call:
    """One call as far as it has come. `name` is None until it is whole, `arguments` is their JSON so far."""

    index: int
    id: str = field(default_factory=lambda: f"call_{uuid4().hex}")
    name: str | None = None
    arguments: str = ""
    is_whole: bool = False

    def chunk(self, arguments: str, *, is_first: bool = False) -> ToolCallChunk:
        """A piece of it. Only the first has the name and the id, which LangChain would join."""
        return ToolCallChunk(
            name=self.name if is_first else None,
            args=arguments,
            id=self.id if is_first else None,
            index=self.index,
            type="tool_call_chunk",
        )


@final
class CallReader:
    """Follows one answer. What begins with a brace is calls, a line each; anything else is text."""

    def __init__(self, max_tokens: int, stop: Sequence[str] = ()) -> None:
        """`max_tokens` is for the message about a call that was cut; `stop` cuts a text, and no call."""
        self.calls: list[Call] = []
        self._max_tokens = max_tokens
        self._text = StopMatcher(stop)
        self._is_text: bool | None = None
        self._held = ""

    def push(self, text: str, *, is_last: bool = False) -> tuple[str, list[ToolCallChunk]]:
        """Add text; return the text and the pieces of calls, one a call, that can be given away.

        With the last text comes what was held back. A call that is not whole then is closed so that nobody can take it
        for one.
        """
        if self._is_text is None and text:
            self._is_text = not text.startswith("{")
        if self._is_text:
            released = self._text.push(text)
            return released + (self._text.flush() if is_last else ""), []
        *lines, rest = text.split("\n")
        chunks = []
        for line in lines:
            chunks += [*self._push_call(line), *self._end_call()]
        chunks += self._push_call(rest)
        return "", _one_a_call(chunks + self._end_call() if is_last else chunks)

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string cut the text."""
        return self._text.is_matched

    @property
    def is_call(self) -> bool:
        """Whether the answer is calls, and whole."""
        return bool(self.calls) and all(call.is_whole for call in self.calls)

    @property
    def _reason(self) -> str:
        return f"the answer was cut at max_tokens={self._max_tokens}, before the call was whole: raise max_tokens"

    def _push_call(self, text: str) -> list[ToolCallChunk]:
        """A piece of a line."""
        if not text:
            return []
        self._held += text
        if not self.calls or self.calls[-1].is_whole:
            self.calls.append(Call(len(self.calls)))
        call = self.calls[-1]
        chunks = []
        if call.name is None:
            head = _HEAD.match(self._held)
            if head is None:
                return []
            call.name, self._held = json.loads(head.group(1)), self._held[head.end() :]
            chunks.append(call.chunk("", is_first=True))
        # The last brace may be the one that closes the call, and is no part of the arguments.
        ready = len(self._held) - self._held.endswith("}")
        given, self._held = self._held[:ready], self._held[ready:]
        call.arguments += given
        return [*chunks, call.chunk(given)] if given else chunks

    def _end_call(self) -> list[ToolCallChunk]:
        """A line is over."""
        if not self.calls or self.calls[-1].is_whole:
            return []
        call, held, self._held = self.calls[-1], self._held, ""
        call.is_whole = call.name is not None and held == "}" and _is_object(call.arguments)
        if call.is_whole:
            return []
        call.arguments += held
        return [call.chunk(f"{held}{_break(call.arguments)} ({self._reason})", is_first=call.name is None)]

    def message_parts(self) -> dict[str, Any]:
        """The calls as an `AIMessage` takes them: those that parse, and those that were cut, with the reason."""
        whole = [call for call in self.calls if call.is_whole]
        cut = [call for call in self.calls if not call.is_whole]
        return {
            "tool_calls": [
                ToolCall(name=call.name or "", args=json.loads(call.arguments), id=call.id, type="tool_call")
                for call in whole
            ],
            "invalid_tool_calls": [
                InvalidToolCall(
                    name=call.name, args=call.arguments, id=call.id, error=self._reason, type="invalid_tool_call"
                )
                for call in cut
            ],
        }


def _one_a_call(chunks: list[ToolCallChunk]) -> list[ToolCallChunk]:
    """The pieces with those of one call joined: LangChain joins them between messages, and not within one."""
    joined: list[ToolCallChunk] = []
    for chunk in chunks:
        if joined and joined[-1]["index"] == chunk["index"]:
            joined[-1]["args"] = (joined[-1]["args"] or "") + (chunk["args"] or "")
        else:
            joined.append(chunk)
    return joined


def _is_object(text: str) -> bool:
    """Whether the text is a whole JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _break(text: str) -> str:
    """What to put after JSON that was cut, so that a lenient parser does not complete it.

    LangChain closes open brackets for the pieces of a stream, which would make a call with half its arguments out of
    one that was cut. The wrong bracket makes it an invalid call.
    """
    open_brackets, is_string, is_escaped = [], False, False
    for char in text:
        if is_escaped:
            is_escaped = False
        elif is_string:
            is_escaped, is_string = char == "\\", char != '"'
        elif char == '"':
            is_string = True
        elif char in "{[":
            open_brackets.append(char)
        elif char in "}]" and open_brackets:
            open_brackets.pop()
    end = ("\\" if is_escaped else "") + ('"' if is_string else "")
    return end + ("]" if not open_brackets or open_brackets[-1] == "{" else "}")
