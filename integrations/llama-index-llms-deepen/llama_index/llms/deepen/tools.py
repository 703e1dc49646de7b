"""LlamaIndex's tools, and its options about them, in the form in which `deepen_llm.frontends.tools` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.program.function_program import get_function_tool
from llama_index.core.tools import FunctionTool
from llama_index.core.tools.types import BaseTool

from deepen_llm.config.model_schema import read_model_schema
from deepen_llm.errors import ConfigError
from deepen_llm.frontends import tools as deepen_tools
from deepen_llm.frontends.tools import ToolSet, read_choice

CHAT_OPTIONS = frozenset({"tools", "tool_choice", "tool_required", "allow_parallel_tool_calls"})
"""The options of a chat that concern tools."""


def is_object_tool(tool: BaseTool) -> bool:
    """Whether it is the tool by which a program of LlamaIndex takes its object: to call it is all that is asked for.

    Its streams do not say so, and a model may then answer with a text, of which the program makes an empty object.
    """
    return isinstance(tool, FunctionTool) and tool.real_fn.__module__ == get_function_tool.__module__


def describe_tool(tool: BaseTool, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A tool in the form of the option `tools`, with these parameters."""
    about = {"name": tool.metadata.get_name(), "description": tool.metadata.description, "parameters": dict(parameters)}
    return {"type": "function", "function": about}


def read_parameters(tool: BaseTool) -> dict[str, Any]:
    """The JSON schema of a tool's arguments, no wider than what its class reads."""
    parameters, model = dict(tool.metadata.get_parameters_dict()), tool.metadata.fn_schema
    if model is None:
        return parameters
    narrowed = read_model_schema(model)
    return {key: narrowed.get(key, value) for key, value in parameters.items()}


def read_tools(options: Mapping[str, Any]) -> ToolSet | None:
    """The tools of one chat; None where there are none, or where none may be called.

    `tools` are LlamaIndex's, or described as `describe_tool` does it; `tool_required` forces a call, of the tool that
    `tool_choice` names, if it names one.

    Raises:
        ConfigError: `tool_required` without tools or with a choice that forbids calls, no list of tools, or what the
            function of the same name in `deepen_llm.frontends.tools` refuses.
        GrammarError: A tool whose arguments cannot be decoded by their schema; the message names it.
    """
    given = options.get("tools") or ()
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        raise ConfigError(f"tools must be a list of tools; got {type(given).__name__}: write tools=[...]")
    described = [describe_tool(tool, read_parameters(tool)) if isinstance(tool, BaseTool) else tool for tool in given]
    choice = options.get("tool_choice")
    if options.get("tool_required"):
        if not described:
            raise ConfigError("tool_required=True asks for a call of a tool; got no tools: give tools, or leave it out")
        chosen = read_choice(choice)
        if not chosen.is_allowed:
            raise ConfigError(
                f"tool_required=True asks for a call; got tool_choice={choice!r} with it: give one of them"
            )
        choice = choice if chosen.is_forced else "required"
    return deepen_tools.read_tools(described, choice, is_parallel=bool(options.get("allow_parallel_tool_calls")))
