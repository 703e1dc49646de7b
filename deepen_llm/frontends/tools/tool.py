"""One tool: its name, what it is for, and the JSON schema of its arguments, checked before anything runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError, GrammarError, quote
from deepen_llm.frontends.tools.calls import write_head
from deepen_llm.frontends.tools.wording import describe
from deepen_llm.structure import JSON_STYLE, check_structure, narrow

_DESCRIBED = '{"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}}'
_DATA = ("enum", "const", "default", "examples")
"""Keywords after which titles are data."""
_BY_NAME = ("properties", "patternProperties", "$defs", "definitions")
"""Keywords after which schemas stand by name."""


@final
@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. Not to be changed."""

    name: str
    description: str
    parameters: dict[str, Any]
    """The JSON schema of its arguments, which are an object."""

    @property
    def rule(self) -> str:
        """A call of it, as the right side of a rule in llguidance's notation."""
        return f"{_json(write_head(self.name))} %json {_json(_decoded(self.parameters))} {_json('}')}"

    @property
    def words(self) -> str:
        """What the models are told about it, in two lines."""
        about = " ".join(self.description.split())
        return f"{_json(self.name)}{': ' if about else ''}{about}\nArguments: {describe(self.parameters)}."

    def is_same(self, other: Tool) -> bool:
        """Whether both are one tool: told in the same words, with the same schema but for the titles in it.

        Pydantic writes titles, and LangChain takes them out of some schemas and leaves them in others.
        """
        return self.words == other.words and _untitled(self.parameters) == _untitled(other.parameters)


def read_tool(described: Any) -> Tool:
    """A tool in the form that most models and servers share, `{"type": "function", "function": {...}}`.

    Raises:
        ConfigError: Something that is no tool, or whose arguments are no object.
        GrammarError: Arguments that cannot be decoded by their schema; the message names the tool and the part.
    """
    try:
        text = json.dumps(described)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"a tool must be {_DESCRIBED}; got {quote(described)}: {error}") from error
    return _read(text)


@lru_cache(maxsize=256)
def _read(text: str) -> Tool:
    """The tool from its JSON; kept, because many calls have the same tools."""
    described = json.loads(text)
    function = described.get("function") if isinstance(described, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise ConfigError(f"a tool must be {_DESCRIBED}; got {quote(text)}")
    name, given = function["name"], function.get("parameters")
    # Some leave out all keywords but a few; arguments are an object in any case.
    parameters = {"type": "object", **(given or {"properties": {}})} if isinstance(given or {}, dict) else {}
    if parameters.get("type") != "object":
        raise ConfigError(f"the arguments of tool {quote(name)} must be an object's JSON schema; got {quote(given)}")
    try:
        check_structure(SamplingParams(json_schema=_decoded(parameters)))
    except GrammarError as error:
        raise GrammarError(f"the arguments of tool {quote(name)} cannot be decoded: {error}") from error
    return Tool(name, str(function.get("description") or ""), parameters)


def _decoded(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The schema by which arguments are decoded: in one line, whatever style the schema asks for itself."""
    return {**narrow(parameters), "x-guidance": JSON_STYLE}


def _untitled(part: Any, *, is_names: bool = False) -> Any:
    """A schema without its titles; `is_names` says that the keys are names that the user chose, and no keywords."""
    if isinstance(part, list):
        return [_untitled(one) for one in part]
    if not isinstance(part, Mapping):
        return part
    return {
        key: value if not is_names and key in _DATA else _untitled(value, is_names=not is_names and key in _BY_NAME)
        for key, value in part.items()
        if is_names or key != "title"
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
