"""Selections of LlamaIndex's routers: schemas by which no choice can be made that does not exist."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from llama_index.core.base.base_selector import MultiSelection, SingleSelection
from llama_index.core.base.llms.types import ChatMessage

_RANGE = re.compile(r"\(1 to (\d+)\)")
"""How LlamaIndex's prompts for selectors say how many choices there are, and nothing else does."""


def answers_schema(num_choices: int, max_answers: int) -> dict[str, Any]:
    """A list of at least one `{"choice", "reason"}`, choices counted from 1, as `SelectionOutputParser` reads it."""
    answer = {
        "type": "object",
        "properties": {"choice": _choice(num_choices), "reason": {"type": "string"}},
        "required": ["choice", "reason"],
        "additionalProperties": False,
    }
    return {"type": "array", "items": answer, "minItems": 1, "maxItems": max(1, max_answers)}


def limit_selection(
    output_cls: type | None, parameters: Mapping[str, Any], messages: Sequence[ChatMessage]
) -> dict[str, Any]:
    """The parameters of a tool; where they are a router's selection, only with choices that its prompt offers.

    LlamaIndex lets a function-calling model select by calling a tool whose index is any number. A model that picks a
    choice which is not there would break the router.
    """
    limited = deepcopy(dict(parameters))
    num_choices = _count_choices(messages)
    if num_choices is None:
        return limited
    if output_cls is SingleSelection:
        limited["properties"]["index"] = _choice(num_choices)
    elif output_cls is MultiSelection:
        limited["$defs"]["SingleSelection"]["properties"]["index"] = _choice(num_choices)
        limited["properties"]["selections"] |= {"minItems": 1, "maxItems": num_choices}
    return limited


def _count_choices(messages: Sequence[ChatMessage]) -> int | None:
    """How many choices the last message that tells it offers; None where none does."""
    for message in reversed(messages):
        if found := _RANGE.search(message.content or ""):
            return int(found.group(1))
    return None


def _choice(num_choices: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "maximum": num_choices}
