"""Tools of one call: what the models are told about them, and the grammar by which they are called.

Chat templates differ in how they tell a model about tools, and many do not at all; so the tools are put in words, into
the system message, where every member reads the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.program.function_program import get_function_tool
from llama_index.core.tools import FunctionTool
from llama_index.core.tools.types import BaseTool

from deepen_llm.errors import ConfigError
from llama_index.llms.deepen.wording import describe

CHAT_OPTIONS = frozenset({"tools", "tool_choice", "tool_required", "allow_parallel_tool_calls"})
"""The options of a chat that concern tools."""
_FORCED = ("required", "any", True)
_FREE = ("auto", None, False)
_FORM = '{"name": ..., "arguments": {...}}'


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool: its name, what it is for, and the JSON schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolSet:
    """The tools that may be called in one answer."""

    tools: tuple[Tool, ...]
    is_forced: bool
    """Whether the answer has to be a call."""
    is_parallel: bool
    """Whether it may be several."""

    @property
    def words(self) -> str:
        """What the models are told."""
        told = [
            f"{tool.name}: {' '.join(tool.description.split())}\nArguments: {describe(tool.parameters)}."
            for tool in self.tools
        ]
        how = f"Answer only with a call of a tool: {_FORM}"
        if not self.is_forced:
            how = f"To call a tool, answer only {_FORM}. Otherwise answer in words."
        several = " Write several calls on a line each." if self.is_parallel else ""
        return "\n".join(["Tools:", *told, how + several])

    @property
    def grammar(self) -> str:
        """Calls, a line each; or, where none is forced, a text that does not begin with a brace.

        So the first character decides, and nothing that looks like a call can be a text.
        """
        from deepen_llm.structure.grammar import JSON_STYLE, narrow  # here, because it loads torch

        rules = []
        for number, tool in enumerate(self.tools):
            schema = {**narrow(tool.parameters), "x-guidance": JSON_STYLE}
            head = f'{{"name": {_json(tool.name)}, "arguments": '
            rules.append(f"call_{number}: {_json(head)} %json {_json(schema)} {_json('}')}")
        call = " | ".join(f"call_{number}" for number in range(len(self.tools)))
        calls = 'call ("\\n" call)*' if self.is_parallel else "call"
        text = [] if self.is_forced else [r"TEXT: /\s?[^{\s](.|\n)*/"]
        start = "start: calls" if self.is_forced else "start: calls | TEXT"
        return "\n".join([start, f"calls: {calls}", f"call: {call}", *rules, *text])


def is_object_tool(tool: BaseTool) -> bool:
    """Whether it is the tool by which a program of LlamaIndex takes its object: to call it is all that is asked for.

    Its streams do not say so, and a model may then answer with a text, of which the program makes an empty object.
    """
    return isinstance(tool, FunctionTool) and tool.real_fn.__module__ == get_function_tool.__module__


def describe_tool(tool: BaseTool, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A tool in the form of the option `tools`, with these parameters."""
    about = {"name": tool.metadata.get_name(), "description": tool.metadata.description, "parameters": dict(parameters)}
    return {"type": "function", "function": about}


def read_tools(options: Mapping[str, Any]) -> ToolSet | None:
    """The tools of one chat; None where there are none, or where none may be called.

    `tool_choice` is "auto" or None, "required" or "any", "none", a tool's name, or
    `{"type": "function", "function": {"name": ...}}`; a name forces a call of that tool.

    Raises:
        ConfigError: Something that is no tool, two tools of one name, or a choice that is not among them.
    """
    tools = tuple(_read(described) for described in options.get("tools") or ())
    choice = options.get("tool_choice")
    is_forced = bool(options.get("tool_required"))
    if not tools:
        if is_forced or choice not in (*_FREE, "none"):
            raise ConfigError(f"a tool cannot be called without tools; got tool_choice={choice!r}: give tools")
        return None
    if choice == "none" and not is_forced:
        return None
    _check_apart(tools)
    if choice not in (*_FORCED, *_FREE, "none"):
        tools, is_forced = (_find(tools, choice),), True
    return ToolSet(tools, is_forced or choice in _FORCED, bool(options.get("allow_parallel_tool_calls")))


def _read(described: Any) -> Tool:
    function = described.get("function") if isinstance(described, Mapping) else None
    if not isinstance(function, Mapping) or not function.get("name"):
        raise ConfigError(
            f'a tool must be {{"type": "function", "function": {{"name": ..., "parameters": ...}}}}; '
            f"got {described!r}: use chat_with_tools for LlamaIndex's tools"
        )
    parameters = function.get("parameters") or {"properties": {}}
    # LlamaIndex leaves out all but a few keywords; arguments are an object in any case.
    return Tool(str(function["name"]), str(function.get("description") or ""), {"type": "object", **parameters})


def _check_apart(tools: Sequence[Tool]) -> None:
    names = [tool.name for tool in tools]
    if doubled := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"tools must have names of their own; got {doubled[0]!r} {names.count(doubled[0])} times")


def _find(tools: Sequence[Tool], choice: Any) -> Tool:
    inner = choice.get("function", choice) if isinstance(choice, Mapping) else {"name": choice}
    name = inner.get("name") if isinstance(inner, Mapping) else None
    for tool in tools:
        if tool.name == name:
            return tool
    names = ", ".join(tool.name for tool in tools)
    raise ConfigError(f"tool_choice must be auto, required, none or one of the tools ({names}); got {choice!r}")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
