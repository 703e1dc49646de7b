"""LangChain's tools in the form in which `deepen_llm.frontends.tools` reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from langchain_core.tools import BaseTool
from langchain_core.tools.base import create_schema_from_function
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel

from deepen_llm.config.model_schema import read_model_schema
from deepen_llm.errors import ConfigError

ToolSource: TypeAlias = dict[str, Any] | type | Callable[..., Any] | BaseTool


def describe_tools(tools: Sequence[ToolSource], *, strict: bool | None = None) -> list[dict[str, Any]]:
    """The tools in the form that LangChain's models share. Whether they can be decoded, `read_tools` finds out.

    Args:
        tools: Tools, functions, pydantic or TypedDict classes, or dictionaries.
        strict: True makes a call give every argument, also those that have a default.

    Raises:
        ConfigError: No list of tools, an empty one, or something in it that is no tool.
    """
    check_list(tools)
    described = []
    for place, tool in enumerate(tools):
        try:
            described.append(_narrow(tool, convert_to_openai_tool(tool, strict=strict), strict=strict))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"tool {place} must have a name and a schema; got {tool!r}: {error}") from error
    if not described:
        raise ConfigError("tools must hold at least one tool; got none: leave tools out")
    return described


def _narrow(tool: ToolSource, described: dict[str, Any], *, strict: bool | None) -> dict[str, Any]:
    """The tool as LangChain describes it, with arguments no wider than what its pydantic class reads."""
    function = described["function"]
    model = _model_of(tool, function["name"])
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return described
    schema = {**read_model_schema(model), "title": function["name"], "description": function["description"]}
    return convert_to_openai_tool(schema, strict=strict)


def _model_of(tool: ToolSource, name: str) -> object:
    """What LangChain makes the schema of a tool's arguments from."""
    if isinstance(tool, BaseTool):
        return tool.args_schema and tool.tool_call_schema
    if isinstance(tool, (dict, type)):
        return tool
    return create_schema_from_function(
        name, tool, filter_args=(), parse_docstring=True, error_on_invalid_docstring=False, include_injected=False
    )


def check_list(tools: object) -> None:
    """Refuse tools that are no list.

    Raises:
        ConfigError: A single tool, or something else.
    """
    if isinstance(tools, (str, bytes)) or not isinstance(tools, Sequence):
        raise ConfigError(f"tools must be a list of tools; got {type(tools).__name__}: write tools=[...]")
