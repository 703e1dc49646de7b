"""Tools: their schemas, which of them may be called, what the models are told, and the grammar of their calls.

Chat templates differ in how they tell a model about tools, and many do not at all. So tools are put in words, into
the system message, where every member reads the same; a call is one line of JSON, `{"name": ..., "arguments": {...}}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import llguidance
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from deepen_llm.config import SamplingParams
from deepen_llm.errors import ConfigError, GrammarError

ToolSource: TypeAlias = dict[str, Any] | type | Callable[..., Any] | BaseTool
ToolChoice: TypeAlias = str | bool | Mapping[str, Any] | None

_FORCED = ("any", "required", True)
_FREE = ("auto", None, False)


@dataclass(frozen=True)
class Tool:
    """One tool: its name, what it is for, and the JSON schema of its arguments."""

    name: str
    description: str
    parameters: dict[str, Any]
    decoded: dict[str, Any]
    """The schema as the engine decodes by it: without properties that it does not name, in one way of writing."""

    @property
    def head(self) -> str:
        """What a call of it begins with; the arguments and a closing brace follow."""
        return f'{{"name": {_json(self.name)}, "arguments": '

    @property
    def words(self) -> str:
        """What the models are told about it, in one line of JSON."""
        told: dict[str, Any] = {"name": self.name, "description": self.description, "arguments": _told(self.parameters)}
        return _json({key: value for key, value in told.items() if value})


@dataclass(frozen=True)
class ToolSet:
    """The tools of one request, and whether one has to be called."""

    tools: tuple[Tool, ...]
    is_forced: bool
    """Whether the answer has to be a call."""
    is_parallel: bool
    """Whether an answer may hold several calls."""

    def grammar(self, stop: Sequence[str] = ()) -> str:
        """The grammar of an answer: calls, or, where none is forced, a text that does not begin with a brace.

        So the first token decides between the two. Nothing comes after a stop string in a text, which ends the answer.
        """
        calls = [f"call_{n}: {_json(tool.head)} %json {_json(tool.decoded)} {_json('}')}" for n, tool in _count(self)]
        answer = 'call ("\\n" call)*' if self.is_parallel else "call"
        lines = [f"answer: {answer}", f"call: {' | '.join(f'call_{n}' for n, _ in _count(self))}", *calls]
        if self.is_forced:
            return "\n".join(["start: answer", *lines])
        return "\n".join(["start: answer | TEXT", *lines, f"TEXT: /[^{{](.|\\n)*/{_nothing_after(stop)}"])

    @property
    def words(self) -> str:
        """What the models are told: the tools, and how to call them."""
        form = '{"name": ..., "arguments": {...}}'
        if self.is_forced:
            how = f"Answer with a call of one of them, and nothing else: {form}"
        else:
            how = f"To call one, answer with nothing but {form}. Otherwise answer in words."
        several = " Write several calls on a line each." if self.is_parallel else ""
        return "\n".join(["Tools:", *[tool.words for tool in self.tools], how + several])


def describe_tools(tools: Sequence[ToolSource], *, strict: bool | None = None) -> list[dict[str, Any]]:
    """The tools in the form that LangChain's models share, checked.

    Args:
        tools: Tools, functions, pydantic or TypedDict classes, or dictionaries.
        strict: True makes a call give every argument, also those that have a default.

    Raises:
        ConfigError: No tools, two different ones of one name, or something that is no tool.
        GrammarError: A tool whose arguments cannot be decoded by their schema; the message names it.
    """
    described = []
    for place, tool in enumerate(tools):
        try:
            described.append(convert_to_openai_tool(tool, strict=strict))
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"tool {place} must have a name and a schema; got {tool!r}: {error}") from error
    _read(described)
    return described


def read_tools(described: Sequence[Mapping[str, Any]], choice: ToolChoice, *, is_parallel: bool) -> ToolSet | None:
    """The tools of one request, as `describe_tools` gives them; None where none may be called.

    Args:
        described: The tools.
        choice: "auto" or None leaves it to the models; "any", "required" or True forces a call; a tool's name, or
            `{"type": "function", "function": {"name": ...}}`, forces a call of that tool; "none" forbids calls.
        is_parallel: Whether an answer may hold several calls.

    Raises:
        ConfigError: A choice that names no tool, or what `describe_tools` refuses.
        GrammarError: A tool whose arguments cannot be decoded by their schema.
    """
    tools = _read(described)
    wanted = _wanted(choice)
    if wanted is not None:
        chosen = tuple(tool for tool in tools if tool.name == wanted)
        if not chosen:
            raise ConfigError(
                f"tool_choice must name a tool, or be auto, any or none; got {wanted!r}: "
                f"the tools are {', '.join(tool.name for tool in tools)}"
            )
        return ToolSet(chosen, is_forced=True, is_parallel=is_parallel)
    return None if choice == "none" else ToolSet(tools, is_forced=choice in _FORCED, is_parallel=is_parallel)


def _wanted(choice: ToolChoice) -> str | None:
    """The name of the one tool that has to be called; None where the choice names none."""
    if isinstance(choice, Mapping):
        inner = choice.get("function", choice)
        name = inner.get("name") if isinstance(inner, Mapping) else None
        if not isinstance(name, str):
            raise ConfigError(f'tool_choice must hold {{"function": {{"name": ...}}}}; got {dict(choice)!r}')
        return name
    if choice in _FREE or choice in _FORCED or choice == "none":
        return None
    return str(choice)


def _read(described: Sequence[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """The tools, each checked, no two of one name; one that is given twice counts once."""
    if not described:
        raise ConfigError("tools must hold at least one tool; got none: leave tools out")
    by_name: dict[str, Tool] = {}
    for tool in (_read_one(json.dumps(one)) for one in described):
        known = by_name.setdefault(tool.name, tool)
        if known.words != tool.words:
            raise ConfigError(
                f"tools must have names of their own; got two of the name {tool.name!r}: {known.words} and {tool.words}"
            )
    return tuple(by_name.values())


@lru_cache(maxsize=256)
def _read_one(described: str) -> Tool:
    """One tool from its JSON; kept, because every call of a bound model reads its tools again."""
    from deepen_llm.structure.grammar import build_grammar  # not before: it loads torch

    function = json.loads(described).get("function", {})
    if not function.get("name"):
        raise ConfigError(f'a tool must be {{"type": "function", "function": {{"name": ...}}}}; got {described}')
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    grammar = build_grammar(SamplingParams(json_schema=schema), after_space=False)
    # llguidance reads a schema without a vocabulary too, so a tool is refused when it is bound and not when it is used.
    is_wrong, messages = llguidance.LLMatcher.validate_grammar_with_warnings(grammar)
    if is_wrong:
        reason = " ".join(messages[0].split())
        raise GrammarError(
            f"the arguments of tool {function['name']!r} cannot be decoded by their schema: {reason}: write that part "
            "with keywords that can, or leave it out and check the arguments in the tool"
        )
    decoded = next(part["json_schema"] for part in json.loads(grammar)["grammars"] if "json_schema" in part)
    return Tool(function["name"], function.get("description", ""), schema, decoded)


def _count(tools: ToolSet) -> list[tuple[int, Tool]]:
    return list(enumerate(tools.tools))


def _nothing_after(stop: Sequence[str]) -> str:
    """The end of a terminal's pattern: nothing may follow one of the stop strings."""
    if not stop:
        return ""
    # By number, because no way of escaping is the same for Python, for Lark and for the regular expressions in it.
    texts = "|".join(re.sub(r"[^0-9A-Za-z]", lambda char: rf"\x{{{ord(char[0]):x}}}", one) for one in stop)
    return rf" & ~/(.|\n)*({texts})(.|\n)+/"


def _told(schema: Any) -> Any:
    """A schema without what tells a model nothing."""
    if isinstance(schema, list):
        return [_told(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    kept = {key: part for key, part in schema.items() if key != "additionalProperties"}
    return {key: _told(part) for key, part in kept.items() if not (key == "title" and isinstance(part, str))}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
