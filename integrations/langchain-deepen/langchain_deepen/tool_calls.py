"""Tool calls as LangChain's messages hold them: whole ones, those that were cut, and the pieces of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, InvalidToolCall, ToolCall, ToolCallChunk

from deepen_llm.frontends.tools import Call, CallPiece, explain_cut, write_call, write_head


def write_calls(message: AIMessage) -> list[str]:
    """The calls of a message, a line each, as the models write them; those that were cut as far as they came."""
    return [write_call(call["name"], call["args"]) for call in message.tool_calls] + [
        write_head(cut["name"] or "") + (cut["args"] or "") for cut in message.invalid_tool_calls
    ]


def message_parts(calls: Sequence[Call], max_tokens: int) -> dict[str, Any]:
    """The calls of a whole answer as an `AIMessage` takes them: those that parse, and those that were cut, with why."""
    error = explain_cut("the call", max_tokens)
    return {
        "tool_calls": [
            ToolCall(name=call.name or "", args=call.values, id=call.id, type="tool_call")
            for call in calls
            if call.is_whole
        ],
        "invalid_tool_calls": [
            InvalidToolCall(name=call.name, args=call.arguments, id=call.id, error=error, type="invalid_tool_call")
            for call in calls
            if not call.is_whole
        ],
    }


def call_chunks(pieces: Sequence[CallPiece]) -> list[ToolCallChunk]:
    """The pieces as LangChain joins them."""
    return [
        ToolCallChunk(name=piece.name, args=piece.arguments, id=piece.id, index=piece.index, type="tool_call_chunk")
        for piece in pieces
    ]


def last_chunks(pieces: Sequence[CallPiece], calls: Sequence[Call], max_tokens: int) -> list[ToolCallChunk]:
    """The last pieces of a stream. Behind a call that was cut comes what makes it an invalid one, and says why.

    LangChain closes open brackets for the pieces of a stream, which would make a call with half its arguments out of
    one that was cut.
    """
    chunks = call_chunks(pieces)
    for call in calls:
        if not call.is_whole:
            end = f"{_break(call.arguments)} ({explain_cut('the call', max_tokens)})"
            # LangChain joins the pieces of a call between messages, and not within one.
            if chunks and chunks[-1]["index"] == call.index:
                chunks[-1]["args"] = (chunks[-1]["args"] or "") + end
            else:
                chunks += call_chunks([CallPiece(call.index, end)])
    return chunks


def _break(text: str) -> str:
    """The wrong bracket to put after JSON that was cut, so that no lenient parser completes it."""
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
