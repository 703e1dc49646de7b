"""Tool calls as models read and write them, a line each: `{"name": "add", "arguments": {"a": 1, "b": 2}}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final
from uuid import uuid4

FORM = '{"name": ..., "arguments": {...}}'
"""What models are told that a call looks like."""


@final
@dataclass(slots=True)
class Call:
    """One call as far as it has come. `name` is None until it is whole, `arguments` is their JSON so far."""

    index: int
    id: str = field(default_factory=lambda: f"call_{uuid4().hex}")
    name: str | None = None
    arguments: str = ""
    is_whole: bool = False

    @property
    def values(self) -> dict[str, Any]:
        """The arguments by name, of a call that is whole."""
        return dict(json.loads(self.arguments))


def write_head(name: str) -> str:
    """What a call of a tool begins with; the arguments and a closing brace follow."""
    return f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": '


def write_call(name: str, arguments: Mapping[str, Any] | str) -> str:
    """One call; arguments that are a string are their JSON."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, default=str)
    return f"{write_head(name)}{text}}}"


def write_result(name: str | None, text: str, *, is_error: bool = False) -> str:
    """What a tool gave, as the user tells it to the models: many chat templates know no role for tools."""
    return f"{'Error' if is_error else 'Result'} of {name or 'the tool'}: {text}"


def explain_cut(what: str, max_tokens: int | None = None, *, num_tokens: int | None = None) -> str:
    """Why an answer is not a whole `what`, and what to do.

    Args:
        what: What the answer, or a part of it, had to be.
        max_tokens: The limit that the answer had, where it is known.
        num_tokens: How long the answer was; said where the limit is not known.
    """
    limit = "max_tokens" if max_tokens is None else f"max_tokens={max_tokens}"
    length = "" if max_tokens is not None or num_tokens is None else f"after {num_tokens} tokens, "
    return (
        f"the answer was cut {length}at {limit} or a member's context (finish_reason 'length'), before {what} "
        "was whole: raise max_tokens, or shorten the prompt"
    )
