"""Messages as clients send them, as the plain roles and texts that each member's chat template takes.

Templates know the system, the user and the assistant: an assistant's tool calls become lines of JSON in its text, as it
writes them, and a tool's result becomes a message of the user that names the tool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepen_llm.errors import quote
from deepen_llm.frontends.tools import write_call, write_result
from deepen_llm.server.refusals import RefusedError

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "user"}
"""The roles, and how templates know them."""
TEXT_PARTS = ("text", "input_text", "output_text")
"""Parts of a content that are text."""


def read_messages(messages: Sequence[Any], words: str = "", *, param: str = "messages") -> list[dict[str, str]]:
    """The messages in their order. The optional `name` of a message has no place in them.

    Args:
        messages: As they came.
        words: What the system says besides, after a system message that comes first.
        param: The field that they came in.

    Raises:
        RefusedError: A message that is not text from the system, the user, the assistant or a tool; it names its place.
    """
    names: dict[str, str] = {}
    read = [_read(message, f"{param}[{place}]", names) for place, message in enumerate(messages)]
    if not read:
        raise RefusedError(f"{param} must hold at least one message; got none", param=param)
    if words:
        read.insert(1 if read[0]["role"] == "system" else 0, {"role": "system", "content": words})
    return read


def _read(message: Any, place: str, names: dict[str, str]) -> dict[str, str]:
    """One message; the names of the calls in it are noted by their ids."""
    role = message.get("role") if isinstance(message, Mapping) else None
    if not isinstance(role, str) or role not in ROLES:
        raise RefusedError(f"{place} must have a role, one of {', '.join(ROLES)}; got {quote(message)}", param=place)
    text = read_content(message.get("content"), f"{place}.content", may_be_empty=role == "assistant")
    if role == "assistant":
        for field in ("function_call", "audio"):
            if message.get(field) is not None:
                raise RefusedError(
                    f"{place}.{field} cannot be read: give text and tool_calls", param=f"{place}.{field}"
                )
        calls = _read_calls(message.get("tool_calls"), f"{place}.tool_calls", names)
        return {"role": role, "content": "\n".join([*([text] if text else []), *calls])}
    if role == "tool":
        return {"role": "user", "content": write_result(names.get(str(message.get("tool_call_id"))), text)}
    return {"role": ROLES[role], "content": text}


def read_content(content: Any, place: str, *, may_be_empty: bool = False) -> str:
    """A message's text: a string, or parts of text joined.

    Raises:
        RefusedError: Something else, an image say; it names the place.
    """
    if isinstance(content, str):
        return content
    if content is None and may_be_empty:
        return ""
    if not isinstance(content, list):
        raise RefusedError(f"{place} must be a text, or a list of parts of text; got {quote(content)}", param=place)
    return "".join(_read_part(part, f"{place}[{index}]") for index, part in enumerate(content))


def _read_part(part: Any, place: str) -> str:
    if isinstance(part, Mapping):
        kind = part.get("type")
        text = part.get("refusal" if kind == "refusal" else "text")
        if kind in (*TEXT_PARTS, "refusal") and isinstance(text, str):
            return text
        raise RefusedError(f"{place} must be text; got a part of type {quote(kind)}: leave it out", param=place)
    raise RefusedError(f'{place} must be {{"type": "text", "text": ...}}; got {quote(part)}', param=place)


def _read_calls(calls: Any, place: str, names: dict[str, str]) -> list[str]:
    """An assistant's calls as it writes them, a line each."""
    if calls is None:
        return []
    if not isinstance(calls, list):
        raise RefusedError(f"{place} must be a list of calls; got {quote(calls)}", param=place)
    lines = []
    for call in calls:
        function = call.get("function") if isinstance(call, Mapping) else None
        name, arguments = (function.get("name"), function.get("arguments")) if isinstance(function, Mapping) else (0, 0)
        if not isinstance(name, str) or not isinstance(arguments, str):
            raise RefusedError(
                f'{place} must hold {{"id": ..., "type": "function", "function": {{"name": ..., "arguments": '
                f'"..."}}}}}}; got {quote(call)}',
                param=place,
            )
        names[str(call.get("id"))] = name
        lines.append(write_call(name, arguments))
    return lines
